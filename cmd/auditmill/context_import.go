package main

import (
	stdcontext "context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/directory"
	"github.com/auditmill/auditmill/enrich/origin"
)

// tokenVariable has the bearer token where --scim-token-file does not.
const tokenVariable = "SCIM_TOKEN"

// importFlags are what is imported, and how.
type importFlags struct {
	cluster, at    string
	kubectl        string
	partial        bool
	people, groups []string
	ranges         []string
	scim           string
	tokenFile      string
	usernames      []string
	groupID        string
	mmdb           []string
	source         string
	dryRun, yes    bool
	output         output
}

// currentContext is what --kubectl has without a value.
const currentContext = "(current)"

func newContextImport(o *options) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import [DUMP…]",
		Short: "Import dumps of a cluster, people, groups and IP ranges; only what differs is written",
		Long: `Compare what is known with dumps and lists, print what differs, and write that. Importing the same again changes nothing, and an
import that was interrupted is completed by the same command.

Cluster dumps are what 'kubectl get KINDS -A -o json' prints: files, directories of them, or - for standard input; --kubectl lets
auditmill run kubectl itself, which only reads. What the dump of a kind does not have any more is removed, unless --partial says
that it is not of the whole cluster. They are taken to be of now, or of --at.

People come from CSV with a header row, a JSON array or JSON lines. Fields: id, name, email, team, manager, active (true, false, or
empty for unknown), usernames, groups; the last two take several values, separated by semicolons. An e-mail or an id is needed,
and is what the person is called as an actor. Usernames are what clusters call the person, such as oidc:alice; cluster/prod/NAME
holds in that cluster alone. --username makes more of them, such as 'oidc:{email}'. Groups have the fields id, name and members.
A SCIM 2.0 service gives both; its token is read from --scim-token-file or $` + tokenVariable + `.

IP ranges are lines "CIDR ZONE [CLUSTER]", or CSV or JSON with the fields cidr, zone and cluster.

A list is complete: whom it does not have any more is removed, if the same list (--source, by default the name of the file)
brought them. Who left the company stays known if the list says active: false. When more than a tenth is to be removed, --yes is
needed, or a confirmation.

MMDB files, for country and network of addresses, are no context: each enrich opens them itself. --mmdb checks that a file can be
used, and says how to configure it.`,
		Example: `  kubectl get clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,namespaces,pods,nodes -A -o json |
    auditmill context import --cluster prod -
  auditmill context import --cluster prod --kubectl=prod-admin
  auditmill context import --cluster prod dumps/ --at 2026-11-21T02:59:00Z --dry-run
  auditmill context import --people people.csv --groups groups.csv --username 'oidc:{email}'
  auditmill context import --scim https://idp.corp.example/scim/v2 --scim-token-file /run/secrets/scim --source idp
  auditmill context import --ranges networks.txt --output json`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, o, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.cluster, "cluster", "", "`name` of the cluster that the dumps are of, as in its events")
	flags.StringVar(&f.at, "at", "", "`when` it was so: a time (2026-11-01T12:00:00Z) or a duration before now (24h) (default: now)")
	flags.StringVar(&f.kubectl, "kubectl", "", "let kubectl read the cluster of that `context`, or of its current one")
	flags.Lookup("kubectl").NoOptDefVal = currentContext
	flags.BoolVar(&f.partial, "partial", false, "the dumps are not of the whole cluster: remove nothing that they lack")
	flags.StringArrayVar(&f.people, "people", nil, "`file` of people, CSV or JSON; may be repeated")
	flags.StringArrayVar(&f.groups, "groups", nil, "`file` of groups, CSV or JSON; may be repeated")
	flags.StringArrayVar(&f.ranges, "ranges", nil, "`file` of IP ranges, lines, CSV or JSON; may be repeated")
	flags.StringVar(&f.scim, "scim", "", "`address` of a SCIM 2.0 service to read people and groups from")
	flags.StringVar(&f.tokenFile, "scim-token-file", "", "`file` with the bearer token of the SCIM service; without it $"+tokenVariable)
	flags.StringArrayVar(&f.usernames, "username", nil, "`template` of what clusters call people, of {email}, {localpart}, {id}, {username}, {name} and, of SCIM, {externalId}; may be repeated")
	flags.StringVar(&f.groupID, "group-id", "", "`template` of what clusters call SCIM groups, of {name}, {id} and {externalId} (default {name})")
	flags.StringArrayVar(&f.mmdb, "mmdb", nil, "`file` of countries or networks to check; may be repeated")
	flags.StringVar(&f.source, "source", "", "`name` of the source; what a list lacks is removed if it came from the same (default: the file's name, the SCIM service's host)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what differs, all of it, and write nothing")
	flags.BoolVarP(&f.yes, "yes", "y", false, "remove much without asking")
	f.output.add(cmd)
	for _, name := range []string{"people", "groups", "ranges", "mmdb", "scim-token-file"} {
		if err := cmd.MarkFlagFilename(name); err != nil {
			panic(err) // the flags are defined above
		}
	}
	completeCluster(cmd, o, "cluster")
	return cmd
}

// check says what is wrong with the command line.
func (f *importFlags) check(args []string) error {
	lists := slices.Concat(f.people, f.groups, f.ranges)
	var err error
	switch {
	case len(args)+len(lists)+len(f.mmdb) == 0 && f.kubectl+f.scim == "":
		err = errors.New("name something to import: dumps, --kubectl, --people, --groups, --ranges, --scim or --mmdb")
	case f.scim == "" && f.tokenFile+f.groupID != "":
		err = errors.New("--scim-token-file and --group-id: are about --scim, which is not given")
	case strings.ContainsFunc(f.source, func(c rune) bool { return c < ' ' || c == 0x7f }):
		err = fmt.Errorf("--source %q: has a control character in it", f.source)
	default:
		err = f.checkDumps(args)
	}
	standard := 0
	for _, path := range slices.Concat(args, lists) {
		if path == "-" {
			standard++
		}
	}
	if err == nil && standard > 1 {
		err = errors.New("-: standard input can be read once only")
	}
	if err != nil {
		return &usageError{err}
	}
	return f.checkTemplates()
}

func (f *importFlags) checkTemplates() error {
	for _, text := range f.usernames {
		if err := directory.Template(text).Check(directory.UsernameFields(f.scim != "")...); err != nil {
			return &usageError{fmt.Errorf("--username %w", err)}
		}
	}
	return f.output.check()
}

func (f *importFlags) checkDumps(args []string) error {
	dumps := len(args) > 0 || f.kubectl != ""
	switch {
	case dumps && f.cluster == "":
		return errors.New("--cluster: is needed: name the cluster that the dumps are of, as in its events")
	case strings.ContainsAny(f.cluster, "/*") || f.cluster == organization:
		return fmt.Errorf("--cluster %q: is no name of a cluster", f.cluster)
	case !dumps && (f.cluster != "" || f.partial):
		return errors.New("--cluster and --partial: are about dumps, of which none is named; ranges name their cluster themselves")
	case len(args) > 0 && f.kubectl != "":
		return fmt.Errorf("%s: either dumps or --kubectl; a context of kubectl is named like --kubectl=%s", args[0], args[0])
	}
	return nil
}

func (f *importFlags) run(cmd *cobra.Command, o *options, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	at, err := moment("--at", f.at)
	if err != nil {
		return err
	}
	if at.After(time.Now()) {
		return &usageError{fmt.Errorf("--at %s: has not come yet; name the time when the dumps were taken", f.at)}
	}
	if err := checkMMDB(cmd.OutOrStdout(), f.mmdb); err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	from := microseconds(at) // before anything is read: what changes meanwhile is newer
	planners, err := f.read(ctx, cmd, args)
	if err != nil || len(planners) == 0 {
		return err
	}
	cfg, err := o.load("kafka")
	if err != nil {
		return err
	}
	store, err := liveContext(ctx, cmd, cfg.Kafka)
	if err != nil {
		return err
	}
	r := &importReport{DryRun: f.dryRun}
	for _, plan := range planners {
		p := plan(store, from)
		r.plans = append(r.plans, p)
		// What the next is compared with.
		first, then := p.Changes()
		store.Apply(p.Cluster, slices.Concat(first, then)...)
	}
	if !f.output.json() {
		r.print(cmd.OutOrStdout(), f.dryRun)
	}
	if !f.dryRun {
		if err := f.write(ctx, cmd, o, r, slices.Contains(slices.Concat(args, f.people, f.groups, f.ranges), "-")); err != nil {
			return err
		}
	}
	if f.output.json() {
		return r.printJSON(cmd.OutOrStdout())
	}
	r.conclude(cmd.OutOrStdout())
	return nil
}

func (f *importFlags) write(ctx stdcontext.Context, cmd *cobra.Command, o *options, r *importReport, inputUsed bool) error {
	for _, p := range r.plans {
		if !p.Drastic() {
			continue
		}
		what := fmt.Sprintf("remove %d of the %d objects of %s", p.Count(directory.Remove), p.Present, r.title(p))
		if err := confirm(cmd, f.yes, inputUsed, what); err != nil {
			return err
		}
	}
	cfg, err := o.load("kafka")
	if err != nil {
		return err
	}
	for _, p := range r.plans {
		if p.Empty() {
			continue
		}
		first, then := p.Changes()
		n, err := write(ctx, cmd, cfg.Kafka, p.Cluster, first, then)
		r.Written += n
		if err != nil {
			return err
		}
	}
	return nil
}

// planner works out what one source changes.
type planner func(store *context.Store, from int64) *directory.Plan

// read reads everything that is imported, before anything is compared.
func (f *importFlags) read(ctx stdcontext.Context, cmd *cobra.Command, args []string) (all []planner, err error) {
	dumps, err := f.dumps(ctx, cmd, args)
	if err != nil {
		return nil, err
	}
	for _, d := range dumps {
		all = append(all, func(store *context.Store, from int64) *directory.Plan {
			return directory.PlanDump(store, f.cluster, d, from)
		})
	}
	lists, err := f.lists(ctx, cmd)
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		for _, note := range list.Notes {
			fmt.Fprintln(cmd.ErrOrStderr(), "note:", note)
		}
		all = append(all, func(store *context.Store, from int64) *directory.Plan { return directory.PlanList(store, list, from) })
	}
	return all, nil
}

func (f *importFlags) dumps(ctx stdcontext.Context, cmd *cobra.Command, args []string) (all []*context.Dump, err error) {
	if f.kubectl != "" {
		d, err := runKubectl(ctx, strings.TrimPrefix(f.kubectl, currentContext))
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	for _, path := range args {
		var d *context.Dump
		if path == "-" {
			d, err = context.ReadDumpFrom("standard input", cmd.InOrStdin())
		} else {
			d, err = context.ReadDump(path)
		}
		if err != nil {
			return nil, err
		}
		if len(d.Objects) == 0 {
			return nil, fmt.Errorf("%s: nothing in it that is followed: no roles, bindings, service accounts, namespaces, pods or nodes", path)
		}
		if path != "-" {
			d.Name = filepath.Base(path)
		}
		all = append(all, d)
	}
	for _, d := range all {
		if f.partial {
			d.Complete = nil
		}
		if f.source != "" {
			d.Name = f.source
		}
	}
	return all, nil
}

func (f *importFlags) lists(ctx stdcontext.Context, cmd *cobra.Command) (all []*directory.List, err error) {
	templates := make([]directory.Template, len(f.usernames))
	for i, text := range f.usernames {
		templates[i] = directory.Template(text)
	}
	var faults []error
	read := func(paths []string, parse func(file, source string, in io.Reader) (*directory.List, error)) {
		for _, path := range paths {
			list, err := f.list(cmd, path, parse)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			all = append(all, list)
		}
	}
	read(f.people, func(file, source string, in io.Reader) (*directory.List, error) {
		return directory.ReadPeople(file, source, in, templates...)
	})
	read(f.groups, directory.ReadGroups)
	read(f.ranges, directory.ReadRanges)
	if err := errors.Join(faults...); err != nil {
		if _, faulty := errors.AsType[directory.Faults](err); faulty {
			return nil, &usageError{err}
		}
		return nil, err
	}
	if f.scim == "" {
		return all, nil
	}
	list, err := f.readSCIM(ctx, cmd, templates)
	if err != nil {
		return nil, err
	}
	return append(all, list), nil
}

func (f *importFlags) list(cmd *cobra.Command, path string, parse func(file, source string, in io.Reader) (*directory.List, error)) (*directory.List, error) {
	if path == "-" {
		return parse("standard input", orElse(f.source, "standard input"), cmd.InOrStdin())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parse(path, orElse(f.source, filepath.Base(path)), file)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func (f *importFlags) readSCIM(ctx stdcontext.Context, cmd *cobra.Command, templates []directory.Template) (*directory.List, error) {
	token := os.Getenv(tokenVariable)
	if f.tokenFile != "" {
		text, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--scim-token-file: %w", err)
		}
		token = string(text)
	}
	s := &directory.SCIM{
		URL: f.scim, Token: strings.TrimSpace(token), Source: f.source, Usernames: templates, GroupID: directory.Template(f.groupID),
	}
	if err := s.Check(); err != nil {
		return nil, &usageError{fmt.Errorf("--scim: %w", err)}
	}
	if u, err := url.Parse(f.scim); err == nil && s.Source == "" {
		s.Source = u.Host
	}
	last := time.Now()
	s.Progress = func(endpoint string, got, total int) {
		if time.Since(last) > time.Second {
			last = time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d of %d\n", endpoint, got, total)
		}
	}
	return s.Read(ctx)
}

// checkMMDB says of each file whether it can be used, and how.
func checkMMDB(out io.Writer, files []string) error {
	for _, path := range files {
		if _, err := origin.OpenPlaces([]string{path}); err != nil {
			return err
		}
		full, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s can be used. Each enrich opens it itself: put the file on its machine and name it in the configuration,\n  enrich:\n    mmdb: [%s]\n", path, full)
	}
	return nil
}
