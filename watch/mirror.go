package watch

import (
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/auditmill/auditmill/enrich/context"
)

const (
	// settled is how long after a watch was opened what it shows may have happened before that.
	settled = 10 * time.Second
	// silent is how long an open watch may show nothing and be trusted to have shown everything: API servers send a
	// bookmark each minute.
	silent = 90 * time.Second
	// apart is by how much a version must be older than a list to have been in it, whatever the clocks say.
	apart = time.Minute
)

// mirror is what a reflector writes to: it turns what one kind of a cluster's objects look like into sightings. All
// its methods but those of the observer are called by one reflector at a time.
type mirror struct {
	resource
	cluster *watched
	log     *slog.Logger

	mu       sync.Mutex
	last     time.Time // everything until then was shown, to this process or one before; zero if never
	opened   time.Time // when the watch was opened
	began    time.Time // when the list was asked for
	snapshot time.Time // when its first page came: all pages show one moment between the two
	restored bool      // see sighting
}

// since returns from when on a change that is seen now may have been there; 0 if it is new.
func (m *mirror) since(now time.Time) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.last
	if now.Sub(m.opened) > settled && now.Sub(last) < silent {
		return 0
	}
	return last.UnixMicro()
}

// Add takes an object that was created. It is an *object, as everywhere here: the codec makes no other.
func (m *mirror) Add(o any) error {
	now := time.Now()
	since, at := m.since(now), now.UnixMicro()
	obj := o.(*object)
	if obj.kept != nil {
		// What API servers call the time of creation is up to a second before it.
		if t := created(obj.kept); t != 0 {
			at = max(t, min(at, t+time.Second.Microseconds()))
		}
	}
	m.see(now, obj, at, since)
	m.shown(now)
	return nil
}

// Update takes an object that was changed.
func (m *mirror) Update(o any) error {
	now := time.Now()
	m.see(now, o.(*object), now.UnixMicro(), m.since(now))
	m.shown(now)
	return nil
}

// Delete takes an object that was deleted, as it was last.
func (m *mirror) Delete(o any) error {
	now := time.Now()
	since := m.since(now)
	obj := o.(*object)
	uid := ""
	if obj.kept != nil {
		uid = obj.kept.Metadata.UID
	}
	m.cluster.metrics.events.WithLabelValues(m.name).Inc()
	m.cluster.queue.put(now, sighting{
		change: context.Change{Key: obj.key, From: now.UnixMicro(), UID: uid, Source: context.SourceWatch}, since: since,
	})
	m.shown(now)
	return nil
}

func (m *mirror) see(now time.Time, o *object, at, since int64) {
	m.cluster.metrics.events.WithLabelValues(m.name).Inc()
	if o.fault != nil {
		m.bad(o)
		return
	}
	m.cluster.queue.put(now, m.sighting(o, at, since))
}

func (m *mirror) sighting(o *object, at, since int64) sighting {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sighting{
		change: context.Change{Key: o.key, From: at, Object: o.kept, Source: context.SourceWatch}, since: since, restored: m.restored,
	}
}

func (m *mirror) bad(o *object) {
	m.cluster.metrics.stage.Bad(reasonUnreadable).Inc()
	m.log.Error("object not readable", "object", o.key.String(), "err", o.fault)
}

// Replace takes all objects there are.
func (m *mirror) Replace(all []any, version string) error {
	m.mu.Lock()
	began, at, last := m.began, m.snapshot, m.last
	m.mu.Unlock()
	from, since := at.UnixMicro(), int64(unseen)
	if !last.IsZero() {
		since = last.UnixMicro()
	}
	m.setBack(version, at)
	seen, whole := make(map[context.Key]bool, len(all)), true
	complete := m.cluster.complete(m.kind)
	var news []sighting
	for _, o := range all {
		obj := o.(*object)
		seen[obj.key] = true
		if obj.fault != nil {
			m.bad(obj)
			whole = false
			continue
		}
		s := m.sighting(obj, from, since)
		// Of something that waits it is not known yet what it will be compared with.
		if m.cluster.queue.has(obj.key) || isNews(&s, m.cluster.find(obj.key), complete) {
			news = append(news, s)
		}
	}
	recorded := false
	for item := range m.cluster.objects(m.kind) {
		recorded = recorded || item.Source == context.SourceAudit
		if !seen[item.Key] && item.From <= from {
			change := context.Change{Key: item.Key, From: from, UID: uidOf(item), Source: context.SourceWatch}
			news = append(news, sighting{change: change, since: since})
		}
	}
	m.cluster.metrics.lists.WithLabelValues(m.name).Inc()
	m.cluster.metrics.stage.In.Add(float64(len(all)))
	m.log.Info("listed", "objects", len(all), "different", len(news), "resource_version", version)
	if whole {
		change := context.Change{From: from, Complete: []context.Kind{m.kind}, Source: context.SourceWatch}
		if complete && m.kind.RBAC() {
			change.Seen = m.absence(news, last, at, recorded)
		}
		news = append(news, sighting{change: change})
	} else {
		m.cluster.flawed(m.kind)
	}
	m.cluster.queue.put(time.Now(), news...)
	m.mu.Lock()
	m.last = began // now that what was different waits: see synced
	m.mu.Unlock()
	return nil
}

// absence returns since when objects may have come and gone unseen, 0 if they may not: there was no look at the cluster for
// a while, and no audit stream that can be trusted to have told it all.
func (m *mirror) absence(news []sighting, last, at time.Time, recorded bool) int64 {
	if recorded && len(news) == 0 {
		return 0
	}
	if !last.IsZero() {
		if at.Sub(last) > silent {
			return last.UnixMicro()
		}
		return 0
	}
	first := int64(0)
	for i := range news {
		if t := news[i].seen(m.cluster.find(news[i].change.Key), true); t != 0 && (first == 0 || t < first) {
			first = t
		}
	}
	return first
}

func isNews(s *sighting, item *context.Item, complete bool) bool {
	_, is := s.news(item, complete)
	return is
}

// setBack finds out whether the cluster was restored from a backup: then it has given out the resource versions that are
// known already, and will do so again for something else.
func (m *mirror) setBack(version string, at time.Time) {
	now, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return
	}
	back := false
	for item := range m.cluster.objects(m.kind) {
		if revision(item.Object) > now && item.From < at.Add(-apart).UnixMicro() {
			back = true
			break
		}
	}
	m.mu.Lock()
	was := m.restored
	m.restored = back
	m.mu.Unlock()
	if back && !was {
		m.log.Warn("the cluster's resource versions are lower than they were: it was restored from a backup, and what it says now counts", "resource_version", version)
	}
}

// Bookmark says that there was nothing else until now.
func (m *mirror) Bookmark(string) error {
	m.shown(time.Now())
	return nil
}

// shown notes that everything until now was shown, and waits to be written: see synced.
func (m *mirror) shown(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = now
}

// Resync has nothing to do: everything is listed again instead.
func (m *mirror) Resync() error { return nil }

func (m *mirror) listing() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = time.Now()
}

func (m *mirror) listed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.snapshot = time.Now()
}

func (m *mirror) connected() {
	m.mu.Lock()
	m.opened = time.Now()
	m.mu.Unlock()
	m.cluster.working(m.kind)
}

func (m *mirror) failed(err error) { m.cluster.failed(m.kind, err) }

func (m *mirror) expired(err error) {
	m.cluster.metrics.expired.WithLabelValues(m.name).Inc()
	m.log.Info("the watch is too far behind, listing again", "err", err)
}

// synced returns until when everything that was shown is written; zero if that is not known.
func (m *mirror) synced() time.Time {
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	if oldest := m.cluster.queue.oldest(); !oldest.IsZero() && oldest.Before(last) {
		return oldest
	}
	return last
}
