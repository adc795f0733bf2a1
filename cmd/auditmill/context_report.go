package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/directory"
)

// importReport is what an import changes.
type importReport struct {
	DryRun  bool
	Written int // records
	plans   []*directory.Plan
}

func (r *importReport) title(p *directory.Plan) string {
	if p.Cluster == context.Organization {
		return printableText(p.Source)
	}
	return fmt.Sprintf("cluster %s, %s", printableText(p.Cluster), printableText(p.Source))
}

// mostSteps bounds what is printed of each operation.
const mostSteps = 50

func (r *importReport) print(out io.Writer, all bool) {
	for _, p := range r.plans {
		fmt.Fprintf(out, "%s, from %s\n", r.title(p), stampOf(p.From))
		printed := map[directory.Operation]int{}
		for i := range p.Steps {
			s := &p.Steps[i]
			if printed[s.Operation]++; all || printed[s.Operation] <= mostSteps {
				printStep(out, s)
			}
		}
		for _, o := range []directory.Operation{directory.Add, directory.Change, directory.Remove} {
			if n := printed[o] - mostSteps; n > 0 && !all {
				fmt.Fprintf(out, "%s %d more; --dry-run and --output json show all\n", sign(o), n)
			}
		}
		fmt.Fprint(out, p)
		if len(p.Complete) > 0 {
			names := make([]string, len(p.Complete))
			for i, k := range p.Complete {
				names[i] = k.String()
			}
			fmt.Fprint(out, "; from then on all are known of: "+strings.Join(names, ", "))
		}
		fmt.Fprintln(out)
	}
}

func sign(o directory.Operation) string {
	return map[directory.Operation]string{directory.Add: "+", directory.Change: "~", directory.Remove: "-"}[o]
}

func printStep(out io.Writer, s *directory.Step) {
	fmt.Fprintf(out, "%s %s", sign(s.Operation), printableText(s.Key.String()))
	for i := range s.Fields {
		separator := ", "
		if i == 0 {
			separator = ": "
		}
		fmt.Fprint(out, separator+printableText(s.Fields[i].String()))
	}
	if s.Operation == directory.Change && len(s.Fields) == 0 {
		fmt.Fprint(out, ": known again")
	}
	fmt.Fprintln(out)
}

func (r *importReport) conclude(out io.Writer) {
	switch {
	case r.DryRun:
		fmt.Fprintln(out, "nothing was written")
	case r.Written == 0:
		fmt.Fprintln(out, "nothing to do")
	default:
		fmt.Fprintln(out, writtenText(r.Written))
	}
}

func writtenText(n int) string {
	if n == 1 {
		return "1 record written to Kafka"
	}
	return fmt.Sprintf("%d records written to Kafka", n)
}

// planJSON is a plan as it is printed.
type planJSON struct {
	Cluster   string     `json:"cluster,omitempty"` // none of people, groups and ranges
	Source    string     `json:"source"`
	From      string     `json:"from"`
	Added     int        `json:"added"`
	Changed   int        `json:"changed"`
	Removed   int        `json:"removed"`
	Unchanged int        `json:"unchanged"`
	Outdated  int        `json:"outdated,omitempty"` // older than what is known
	Complete  []string   `json:"complete,omitempty"`
	Steps     []stepJSON `json:"steps"`
}

type stepJSON struct {
	Operation directory.Operation `json:"operation"`
	Kind      string              `json:"kind"`
	Namespace string              `json:"namespace,omitempty"`
	Name      string              `json:"name"`
	Fields    []directory.Field   `json:"fields,omitempty"`
	Object    *context.Object     `json:"object,omitempty"`
}

func (r *importReport) printJSON(out io.Writer) error {
	all := make([]planJSON, 0, len(r.plans))
	for _, p := range r.plans {
		j := planJSON{
			Source: p.Source, From: stampOf(p.From), Added: p.Count(directory.Add), Changed: p.Count(directory.Change),
			Removed: p.Count(directory.Remove), Unchanged: p.Unchanged, Outdated: p.Outdated, Steps: make([]stepJSON, 0, len(p.Steps)),
		}
		if p.Cluster != context.Organization {
			j.Cluster = p.Cluster
		}
		for _, k := range p.Complete {
			j.Complete = append(j.Complete, k.String())
		}
		for i := range p.Steps {
			s := &p.Steps[i]
			j.Steps = append(j.Steps, stepJSON{
				Operation: s.Operation, Kind: s.Key.Kind.String(), Namespace: s.Key.Namespace, Name: s.Key.Name, Fields: s.Fields, Object: s.After,
			})
		}
		all = append(all, j)
	}
	return printJSON(out, map[string]any{"dry_run": r.DryRun, "written": r.Written, "imports": all})
}
