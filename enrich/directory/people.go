package directory

import (
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

func peopleColumns() []column {
	return []column{
		{name: "id", aliases: []string{"key", "employeeid"}},
		{name: "name", aliases: []string{"displayname", "fullname"}},
		{name: "email", aliases: []string{"mail", "emailaddress"}},
		{name: "team", aliases: []string{"department"}},
		{name: "manager"},
		{name: "active", aliases: []string{"enabled"}},
		{name: "usernames", aliases: []string{"username"}, several: true},
		{name: "groups", aliases: []string{"memberof"}, several: true},
	}
}

func groupColumns() []column {
	return []column{
		{name: "id", aliases: []string{"key", "objectid"}},
		{name: "name", aliases: []string{"displayname"}},
		{name: "members", aliases: []string{"users"}, several: true},
	}
}

// ReadPeople reads a list of people: CSV with a header row, a JSON array, or JSON objects one after the other. file is for
// messages, source names the list.
//
// The fields are id, name, email, team, manager, active (true, false or empty for unknown), usernames and groups, of which
// the last two take several values: separated by semicolons, or a JSON array. A person needs an id or an e-mail. The e-mail
// in lower case, or without one the id, is what the person is called as an actor.
func ReadPeople(file, source string, in io.Reader, usernames ...Template) (*List, error) {
	r := newReader(file, source, context.Person)
	text, ok := r.readText(in)
	if !ok {
		return r.done()
	}
	of := map[string]*Entry{} // username → who has it
	r.rows(text, peopleColumns(), "people", func(w *row) {
		p := r.person(w, usernames)
		if p == nil {
			return
		}
		before := len(r.list.Entries)
		r.add(w.line, "email", personKey(p.object.Person.Email, p.id), p.object)
		if len(r.list.Entries) > before {
			r.claim(of, r.list.Entries[before])
		}
	})
	return r.done()
}

type person struct {
	id     string
	object *context.Object
}

// personKey names a person: by what becomes the actor.
func personKey(email, id string) context.Key {
	if email != "" {
		return context.Key{Kind: context.Person, Name: strings.ToLower(email)}
	}
	return context.Key{Kind: context.Person, Name: id}
}

func (r *reader) person(w *row, usernames []Template) *person {
	before := len(r.faults)
	p := &context.PersonInfo{
		Name: w.one("name"), Email: w.one("email"), Team: w.one("team"), Manager: w.one("manager"),
		Usernames: w.values["usernames"], Groups: w.values["groups"],
	}
	if p.Email != "" && !isEmail(p.Email) {
		r.fault(w.line, "email", quoted(p.Email)+" is no e-mail address", "write it like alice@corp.example, or leave it empty and give an id")
	}
	if p.Email == "" && w.one("id") == "" {
		r.fault(w.line, "id", "neither an id nor an e-mail", "give one of them: it is what the person is called in events")
	}
	var ok bool
	if p.Active, ok = parseActive(w.one("active")); !ok {
		r.fault(w.line, "active", quoted(w.one("active"))+" is neither yes nor no", "write true or false, or leave it empty if it is not known")
	}
	p.Usernames = expand(p.Usernames, usernames, map[string]string{
		"id": w.one("id"), "email": p.Email, "name": p.Name, "username": first(p.Usernames),
	})
	if problem, _ := checkUsername(w.one("id")); problem != "" && p.Email == "" {
		r.fault(w.line, "id", problem, "give the person another id, and this as one of the usernames")
	}
	for _, name := range p.Usernames {
		if problem, remedy := checkUsername(name); problem != "" {
			r.fault(w.line, "usernames", problem, remedy)
		}
	}
	if len(r.faults) > before {
		return nil
	}
	return &person{id: w.one("id"), object: &context.Object{Person: p}}
}

// claim says of whom a username is; that it is of two is a fault.
func (r *reader) claim(of map[string]*Entry, e Entry) {
	for _, name := range append([]string{e.Key.Name}, e.Object.Person.Usernames...) {
		other := of[name]
		if other == nil {
			of[name] = &e
		} else if other.Key != e.Key {
			r.fault(e.Line, "usernames", fmt.Sprintf("%s is of %s on line %d already", quoted(name), quoted(other.Key.Name), other.Line),
				"a username is of one person: leave it out of one of them")
		}
	}
}

func isEmail(text string) bool {
	a, err := mail.ParseAddress(text)
	return err == nil && a.Address == text
}

// parseActive reads whether a person is still there: "true", "false" or "" for unknown.
func parseActive(text string) (active string, ok bool) {
	switch strings.ToLower(text) {
	case "":
		return "", true
	case "true", "yes", "y", "1", "active", "enabled":
		return "true", true
	case "false", "no", "n", "0", "inactive", "disabled", "left":
		return "false", true
	}
	return "", false
}

// checkUsername says what is wrong with a username: those that each cluster gives itself are of nobody everywhere.
func checkUsername(name string) (problem, remedy string) {
	rest, scoped := strings.CutPrefix(name, "cluster/")
	if scoped {
		cluster, user, ok := strings.Cut(rest, "/")
		if !ok || cluster == "" || user == "" {
			return quoted(name) + " names no cluster and user", "write cluster/NAME/USERNAME"
		}
		return "", ""
	}
	if strings.HasPrefix(name, "system:") {
		return quoted(name) + " means another in each cluster", "write cluster/NAME/" + name
	}
	return "", ""
}

// ReadGroups reads a list of groups: CSV with a header row, a JSON array, or JSON objects one after the other. The fields are
// id, as clusters write the group, name, and members: the e-mails of people, or the ids of those without, separated by semicolons or in a
// JSON array.
func ReadGroups(file, source string, in io.Reader) (*List, error) {
	r := newReader(file, source, context.Group)
	text, ok := r.readText(in)
	if !ok {
		return r.done()
	}
	r.rows(text, groupColumns(), "groups", func(w *row) {
		g := &context.GroupInfo{Name: w.one("name")}
		for _, member := range w.values["members"] {
			if isEmail(member) {
				member = strings.ToLower(member) // as personKey does
			}
			g.Members = append(g.Members, member)
		}
		id := w.one("id")
		if id == "" {
			id = g.Name
		}
		if id == "" {
			r.fault(w.line, "id", "neither an id nor a name", "give the id of the group as clusters write it")
			return
		}
		r.add(w.line, "id", context.Key{Kind: context.Group, Name: id}, &context.Object{Group: g})
	})
	return r.done()
}

// Template makes names of fields, such as "oidc:{email}".
type Template string

// Check says what is wrong with a template, which may use the given fields.
func (t Template) Check(fields ...string) error {
	rest, used := string(t), false
	for {
		_, after, open := strings.Cut(rest, "{")
		if !open {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed || !slices.Contains(fields, name) {
			return fmt.Errorf("%s: {%s} is no field; there are {%s}", quoted(string(t)), name, strings.Join(fields, "}, {"))
		}
		rest, used = tail, true
	}
	if !used {
		return fmt.Errorf("%s: would be the same for all; use one of {%s}", quoted(string(t)), strings.Join(fields, "}, {"))
	}
	return nil
}

// of fills in the fields; empty if one of them is.
func (t Template) of(fields map[string]string) string {
	text := string(t)
	for name, value := range fields {
		if !strings.Contains(string(t), "{"+name+"}") {
			continue
		}
		if value == "" {
			return ""
		}
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// expand adds what templates make of fields to names, each once.
func expand(names []string, templates []Template, fields map[string]string) []string {
	fields["localpart"], _, _ = strings.Cut(fields["email"], "@")
	for _, t := range templates {
		if name := t.of(fields); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// UsernameFields are the fields that a Template for usernames may use; those of SCIM users are more.
func UsernameFields(scim bool) []string {
	fields := []string{"id", "email", "localpart", "name", "username"}
	if scim {
		fields = append(fields, "externalId")
	}
	return fields
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}
