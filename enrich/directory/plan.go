package directory

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/auditmill/auditmill/enrich/context"
)

// sourceOf is what what was imported of that name has as its source.
func sourceOf(name string) string { return "import:" + name }

// outdated says whether more is known of an object than a dump says, by what the API server says of versions.
func outdated(known *context.Item, dumped *context.Object) bool {
	if known.Object == nil || known.Object.Metadata.UID == "" || known.Object.Metadata.UID != dumped.Metadata.UID {
		return false
	}
	k, err := strconv.ParseUint(known.Object.Metadata.ResourceVersion, 10, 64)
	d, err2 := strconv.ParseUint(dumped.Metadata.ResourceVersion, 10, 64)
	if err != nil || err2 != nil {
		return false
	}
	return k > d
}

// gathered says whether what is known of an aggregated role is that version of it, with what its parts have become since:
// the controller of the API server has yet to write it, or the parts are wrong, which the dump says of them.
func gathered(known *context.Item, dumped *context.Object) bool {
	return known.Source == context.SourceAggregation && known.Object.Metadata.UID == dumped.Metadata.UID &&
		known.Object.Metadata.ResourceVersion != "" && known.Object.Metadata.ResourceVersion == dumped.Metadata.ResourceVersion
}

// Operation is what a step does to what is known.
type Operation string

// The operations.
const (
	Add    Operation = "add"
	Change Operation = "change"
	Remove Operation = "remove"
)

// Step is what an import changes of one object.
type Step struct {
	Operation Operation
	Key       context.Key
	Before    *context.Item   // nil if it is added
	After     *context.Object // nil if it is removed
	Fields    []Field         // that change; of what is changed only
}

// Plan is what an import changes. Nothing is done yet.
type Plan struct {
	Cluster string
	From    int64 // since when it is so, µs since 1970
	Source  string
	Steps   []Step // sorted by key
	// Complete are the kinds of which all objects are known afterwards and were not before.
	Complete []context.Kind
	// Present is how many objects there were that the import could have removed.
	Present int
	// Unchanged is how many objects are as they were, Outdated how many are known better already.
	Unchanged, Outdated int

	changes []context.Change
}

// Empty says that there is nothing to do.
func (p *Plan) Empty() bool { return len(p.changes) == 0 }

// Count returns the number of steps of an operation.
func (p *Plan) Count(o Operation) (n int) {
	for i := range p.Steps {
		if p.Steps[i].Operation == o {
			n++
		}
	}
	return n
}

// Drastic says that much is removed at once: more than a tenth of what is there, and more than ten. A list that was cut off
// looks like that.
func (p *Plan) Drastic() bool {
	removed := p.Count(Remove)
	return removed > 10 && removed*10 > p.Present || removed > 0 && removed == p.Present && removed > 1
}

// Changes returns what is to be written, first and then: what is in the second may only be written when the first is
// known to be, since it says that all is there.
func (p *Plan) Changes() (first, then []context.Change) {
	for i := range p.changes {
		if p.changes[i].Key.Kind == 0 {
			then = append(then, p.changes[i])
		} else {
			first = append(first, p.changes[i])
		}
	}
	return first, then
}

// PlanList works out what a list changes from a time on. What came from the same source and is not in the list any more
// is removed; what another source said stays.
func PlanList(store *context.Store, list *List, from int64) *Plan {
	known := store.Cluster(context.Organization)
	p := &Plan{Cluster: context.Organization, From: from, Source: sourceOf(list.Name)}
	listed := make(map[context.Key]bool, len(list.Entries))
	for i := range list.Entries {
		e := &list.Entries[i]
		listed[e.Key] = true
		p.set(known, context.Change{Key: e.Key, From: from, Object: e.Object, Source: p.Source})
	}
	for _, kind := range list.Kinds {
		for item := range known.Objects(kind, from) {
			if item.Source != p.Source {
				continue
			}
			p.Present++
			if !listed[item.Key] {
				p.remove(known, item)
			}
		}
	}
	p.sort()
	return p
}

// PlanDump works out what a dump changes of a cluster from a time on.
func PlanDump(store *context.Store, cluster string, dump *context.Dump, from int64) *Plan {
	known := store.Cluster(cluster)
	p := &Plan{Cluster: cluster, From: from, Source: sourceOf(dump.Name)}
	for _, change := range dump.Changes(known, from) {
		switch {
		case change.Key.Kind == 0:
			p.complete(known, change)
		case change.Object == nil:
			if item := known.Find(change.Key, from); item != nil {
				p.remove(known, item)
			}
		default:
			p.set(known, change)
		}
	}
	covered := dump.Coverage(known, from)
	for _, kind := range dump.Complete {
		for item := range known.Objects(kind, from) {
			if covered.Whole(item.Key) {
				p.Present++
			}
		}
	}
	p.sort()
	return p
}

// complete says that all objects of some kinds are known, if that is news.
func (p *Plan) complete(known *context.Cluster, change context.Change) {
	for _, k := range change.Complete {
		if !known.Complete(k, p.From) {
			p.Complete = append(p.Complete, k)
		}
	}
	if len(p.Complete) > 0 {
		p.changes = append(p.changes, change)
	}
}

// set plans what an object becomes.
func (p *Plan) set(known *context.Cluster, change context.Change) {
	before := known.Find(change.Key, change.From)
	switch {
	case before == nil:
		p.step(known, Step{Operation: Add, Key: change.Key, After: change.Object}, change)
	case outdated(before, change.Object):
		p.Outdated++
	case gathered(before, change.Object):
		p.Unchanged++
	default:
		fields := Compare(before.Object, change.Object)
		if len(fields) == 0 && !before.Stale {
			p.Unchanged++
			return
		}
		if p.Cluster == context.Organization && before.Source != p.Source {
			// Two lists that do not agree change it at each import.
			fields = append(fields, Field{Name: "source", Before: before.Source, After: p.Source})
		}
		p.step(known, Step{Operation: Change, Key: change.Key, Before: before, After: change.Object, Fields: fields}, change)
	}
}

func (p *Plan) remove(known *context.Cluster, item *context.Item) {
	change := context.Change{Key: item.Key, From: p.From, Source: p.Source}
	if item.Object != nil {
		change.UID = item.Object.Metadata.UID
	}
	p.step(known, Step{Operation: Remove, Key: item.Key, Before: item}, change)
}

func (p *Plan) step(known *context.Cluster, step Step, change context.Change) {
	p.Steps = append(p.Steps, step)
	p.changes = append(p.changes, change)
	// The topic keeps the last record of an object: where something newer is known, that has to be it.
	if versions := known.History(change.Key); len(versions) > 0 && versions[len(versions)-1].From > change.From {
		p.changes = append(p.changes, versions[len(versions)-1])
	}
}

func (p *Plan) sort() {
	slices.SortStableFunc(p.Steps, func(a, b Step) int { return compareKeys(a.Key, b.Key) })
}

// String sums the plan up.
func (p *Plan) String() string {
	text := fmt.Sprintf("%d added, %d changed, %d removed, %d unchanged", p.Count(Add), p.Count(Change), p.Count(Remove), p.Unchanged)
	if p.Outdated > 0 {
		text += fmt.Sprintf(", %d older than what is known", p.Outdated)
	}
	return text
}
