// Package correlate finds what no single event shows: how often, how many different, in which order, for the
// first time, or not any more.
//
// Comes in: signals in audit.signals.v1, which are the matches of rules that count for a correlation, and
// clocks that say how far their sources are in event time. Goes out: alerts in audit.alerts.v1, and
// signals again for correlations of correlations. Guaranteed: everything is in event time, and
// signals that are late (within what the correlation allows), there twice or out of order give the same
// alerts, with the same ids, as the sorted log; so do a restart and a replay.
//
// # Windows
//
// A window slides: it is any Timespan, both ends included, that ends at a signal. Event count counts events, so
// one that two of the rules match is one; value count counts the different values, or tuples, that are
// not all empty. In a temporal_ordered, events of the same instant are in whichever order satisfies it, and so
// is one event that two rules match. With a condition it asks how many of the rules matched, in their order.
// Sums, averages and percentiles (the nearest rank) take the numbers of each match; what is no number is passed
// over, and so is what is negative in a sum.
//
// # Identity and time of an alert
//
// An alert must be out within a second, and yet the events that come a minute late must not change what it is.
// If it were named after the first event of its window, a late one would be a new first, and chains of
// windows would pass the change on without end. So alerts are named after a tile: time is cut into
// pieces of one Timespan, counted from 1970, and whatever satisfies the condition at signals of one tile is one
// alert of the group. Tiles give names only: windows slide across them. A burst across the edge of a
// tile is two alerts, of one alert group. The set of alerts can only grow with more signals, which makes it
// the same in any order.
//
//	event_count, value_count, temporal, temporal_ordered and value_sum with gt and gte only
//	    fire with the signal that satisfies the condition. The alert is told again, with the same id,
//	    when it has twice the events and when its tile is final; what is told last is what the
//	    sorted log gives.
//	value_avg, value_percentile
//	    can fall again, so each signal is decided when the watermark is beyond it; then the same.
//	any other condition on a count, temporal or sum (lt, lte, eq, neq, ranges)
//	    is asked of whole windows when the watermark is beyond their end: of those that begin at a signal and
//	    that no other window holds besides more, and of the empty ones, of a Timespan after a signal in which
//	    there is none. One alert per tile in which a window begins, one for each silence.
//	first_seen
//	    fires at a sighting if the tuple was not seen for a Timespan before, Learning after the group was
//	    there first. At once if no late signal can change that there is an alert and in which tile,
//	    otherwise when the watermark is beyond. A group is forgotten after four Timespans without it.
//	absence
//	    fires when the watermark is a Timespan beyond the last signal, once per silence. A group that never had
//	    a signal is not missed.
//
// To first_seen and absence all signals of a slot, a 64th of the Timespan and at most an hour, are
// as if they were there until its end; see Sender.Match.
//
// # Watermark
//
// A source (a partition of audit.enriched.v1) writes a Clock into each partition of audit.signals.v1 every few
// seconds: the newest event time that it has evaluated, or the time on the wall if it has read
// everything and nothing comes. The watermark of a correlation is the time of the slowest source less the
// allowed lateness. Clocks are records, so a replay sees the same times. The silence of the only
// cluster is noticed because its idle sources still write clocks. A source whose reader is down holds
// decisions back rather than letting them be wrong; what fires on arrival does not wait for it.
// Signals that are later than allowed are counted, and still fire what fires on arrival; decisions that were
// made stay.
//
// # Corrections
//
// A row of audit.enriched.v1 may come again with a higher version, when more is known of its event. In a group the event
// counts once, with the values of the highest version, and the alert that shows it is told again. Where a correction puts the
// event into another group, or the rule does not match it any more, the sender takes the earlier signal back (Signal.Retract), so that
// a burst is not two because its actor got a name in the middle of it. The sender knows what it sent from memory: an
// event from before a restart that is corrected after counts in both groups, in each once. Alerts that were raised stay. A
// first_seen or an absence only asks whether something was there, so it keeps both.
//
// # Partitions and chains
//
// The key of a signal is correlation and group, so one partition has all of a group. A rule that feeds several
// correlations writes a signal for each. A correlation that feeds another one writes a signal for every
// instant at which its condition holds, under the id of its alert; the counts are of different ids. It knows the
// values of its group, by name, and no other field. Each partition says by clocks of the level of the
// correlation before which time nothing comes any more.
package correlate
