package directory

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

// user is what is used of a User of RFC 7643, 4.1 and 4.3.
type user struct {
	ID          string `json:"id"`
	ExternalID  string `json:"externalId"`
	UserName    string `json:"userName"`
	DisplayName string `json:"displayName"`
	Name        struct {
		Formatted  string `json:"formatted"`
		GivenName  string `json:"givenName"`
		FamilyName string `json:"familyName"`
	} `json:"name"`
	Emails     []email    `json:"emails"`
	Active     truth      `json:"active"`
	Groups     []member   `json:"groups"`
	Enterprise enterprise `json:"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"`
}

type enterprise struct {
	Department string  `json:"department"`
	Manager    manager `json:"manager"`
}

// manager is an object, or the id alone, as some services write it.
type manager struct{ Value, DisplayName string }

func (m *manager) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		return json.Unmarshal(text, &m.Value)
	}
	var wire struct {
		Value       string `json:"value"`
		DisplayName string `json:"displayName"`
	}
	err := json.Unmarshal(text, &wire)
	m.Value, m.DisplayName = wire.Value, wire.DisplayName
	return err
}

type email struct {
	Value   string `json:"value"`
	Type    string `json:"type"`
	Primary truth  `json:"primary"`
}

// group is a Group of RFC 7643, 4.2.
type group struct {
	ID          string   `json:"id"`
	ExternalID  string   `json:"externalId"`
	DisplayName string   `json:"displayName"`
	Members     []member `json:"members"`
}

// member is a reference to a user or a group.
type member struct {
	Value   string `json:"value"`
	Display string `json:"display"`
}

// truth is "true", "false", or "" if nothing was said; some services write truth values as texts.
type truth string

func (t *truth) UnmarshalJSON(text []byte) error {
	active, ok := "", string(text) == "null"
	if !ok {
		active, ok = parseActive(strings.Trim(string(text), `"`))
	}
	if !ok {
		return fmt.Errorf("want true or false, got %s", quoted(string(text)))
	}
	*t = truth(active)
	return nil
}

// mail is the primary e-mail, or that of work, or the first, or a userName that is one.
func (u *user) mail() string {
	best, rank := "", 0
	for _, e := range u.Emails {
		r := 1
		if strings.EqualFold(e.Type, "work") {
			r = 2
		}
		if e.Primary == "true" {
			r = 3
		}
		if isEmail(e.Value) && r > rank {
			best, rank = e.Value, r
		}
	}
	if best == "" && isEmail(u.UserName) {
		best = u.UserName
	}
	return best
}

func (u *user) label() string {
	return cmp.Or(u.DisplayName, u.Name.Formatted, strings.TrimSpace(u.Name.GivenName+" "+u.Name.FamilyName))
}

// list makes people and groups of what a service has.
func (s *SCIM) list(users []user, groups []group, hasGroups bool) (*List, error) {
	r := newReader("SCIM service "+s.URL, s.Source, context.Person)
	if hasGroups {
		r.list.Kinds = append(r.list.Kinds, context.Group)
	} else {
		r.note("has no /Groups: groups stay as they are")
	}
	shared := sharedMails(users)
	if len(shared) > 0 {
		all := slices.Sorted(maps.Keys(shared))
		r.note("%d e-mails are of several users and name none of them, such as %s", len(all), quoted(all[0]))
	}
	keys := make(map[string]string, len(users)) // id → name of the key
	for i := range users {
		keys[users[i].ID] = s.key(&users[i], shared).Name
	}
	in := s.groups(r, groups, keys)
	named := map[string]int{}
	for _, name := range keys {
		named[name]++
	}
	unusable := 0
	for i := range users {
		u := &users[i]
		key := s.key(u, shared)
		bad, _ := checkText(key.Name)
		if problem, _ := checkUsername(key.Name); bad != "" || problem != "" || named[key.Name] > 1 {
			unusable++
			continue
		}
		if !hasGroups {
			for _, g := range u.Groups {
				in[u.ID] = append(in[u.ID], cmp.Or(g.Display, g.Value))
			}
		}
		r.add(0, u.ID, key, &context.Object{Person: s.person(u, shared, keys, in[u.ID])})
	}
	if unusable > 0 {
		r.note("%d users have neither an e-mail nor a userName of their own, and were left out", unusable)
	}
	r.unclaim()
	return r.done()
}

// sharedMails returns the e-mails that several users have, such as that of a service desk.
func sharedMails(users []user) map[string]bool {
	of, shared := map[string]int{}, map[string]bool{}
	for i := range users {
		mails := map[string]bool{}
		for _, e := range users[i].Emails {
			mails[strings.ToLower(e.Value)] = true
		}
		mails[strings.ToLower(users[i].mail())] = true
		delete(mails, "")
		for m := range mails {
			if of[m]++; of[m] > 1 {
				shared[m] = true
			}
		}
	}
	return shared
}

func (s *SCIM) key(u *user, shared map[string]bool) context.Key {
	mail := u.mail()
	if shared[strings.ToLower(mail)] {
		mail = ""
	}
	return personKey(mail, cmp.Or(u.UserName, u.ID))
}

func (s *SCIM) person(u *user, shared map[string]bool, keys map[string]string, groups []string) *context.PersonInfo {
	p := &context.PersonInfo{
		Name: clean(u.label()), Email: u.mail(), Team: clean(u.Enterprise.Department), Active: string(u.Active),
		Manager: clean(cmp.Or(keys[u.Enterprise.Manager.Value], u.Enterprise.Manager.DisplayName, u.Enterprise.Manager.Value)),
	}
	if shared[strings.ToLower(p.Email)] {
		p.Email = ""
	}
	usable := func(name string) bool {
		problem, _ := checkUsername(name)
		bad, _ := checkText(name)
		return name != "" && problem == "" && bad == "" && !shared[strings.ToLower(name)] && !slices.Contains(p.Usernames, name)
	}
	names := []string{u.UserName}
	for _, e := range u.Emails {
		names = append(names, e.Value)
	}
	names = expand(names, s.Usernames, map[string]string{
		"id": u.ID, "externalId": u.ExternalID, "email": p.Email, "username": u.UserName, "name": p.Name,
	})
	for _, name := range names {
		if usable(name) && !strings.EqualFold(name, p.Email) {
			p.Usernames = append(p.Usernames, name)
		}
	}
	slices.Sort(p.Usernames)
	slices.Sort(groups)
	p.Groups = slices.Compact(groups)
	return p
}

// clean takes a text for what it is worth: without control characters and not without end.
func clean(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "�"))
	for len(text) > maxValue {
		text = strings.ToValidUTF8(text[:maxValue], "")
	}
	return strings.TrimSpace(text)
}

// groups adds the groups and returns of which each user is a member, also through groups in groups; by ids.
func (s *SCIM) groups(r *reader, groups []group, keys map[string]string) (in map[string][]string) {
	in = map[string][]string{}
	byID := make(map[string]*group, len(groups))
	for i := range groups {
		byID[groups[i].ID] = &groups[i]
	}
	template := cmp.Or(s.GroupID, "{name}")
	ids, named := make([]string, len(groups)), map[string]int{}
	for i := range groups {
		g := &groups[i]
		ids[i] = template.of(map[string]string{"id": g.ID, "externalId": g.ExternalID, "name": g.DisplayName})
		named[ids[i]]++
	}
	unusable := 0
	for i := range groups {
		g, id := &groups[i], ids[i]
		if problem, _ := checkText(id); problem != "" || id == "" || named[id] > 1 {
			unusable++
			continue
		}
		object := &context.GroupInfo{Name: clean(g.DisplayName)}
		for _, user := range slices.Sorted(maps.Keys(membersOf(g, byID))) {
			if key, known := keys[user]; known {
				in[user] = append(in[user], id)
				object.Members = append(object.Members, key)
			}
		}
		slices.Sort(object.Members)
		r.add(0, g.ID, context.Key{Kind: context.Group, Name: id}, &context.Object{Group: object})
	}
	if unusable > 0 {
		r.note("%d groups have no %s of their own, and were left out: name groups by another of {%s}", unusable, template, strings.Join(GroupFields(), "}, {"))
	}
	return in
}

// membersOf returns the ids of the members of a group, of those in it and so on, each group once.
func membersOf(g *group, groups map[string]*group) map[string]bool {
	users, seen := map[string]bool{}, map[string]bool{g.ID: true}
	for queue := []*group{g}; len(queue) > 0; queue = queue[1:] {
		for _, m := range queue[0].Members {
			inner := groups[m.Value]
			switch {
			case inner == nil:
				users[m.Value] = true
			case !seen[inner.ID]:
				seen[inner.ID] = true
				queue = append(queue, inner)
			}
		}
	}
	return users
}

// unclaim takes away usernames that several people have: they say of nobody who it is.
func (r *reader) unclaim() {
	of, twice := map[string]context.Key{}, map[string]bool{}
	for _, e := range r.list.Entries {
		if e.Object.Person == nil {
			continue
		}
		for _, name := range append([]string{e.Key.Name}, e.Object.Person.Usernames...) {
			if other, has := of[name]; has && other != e.Key {
				twice[name] = true
			}
			of[name] = e.Key
		}
	}
	if len(twice) == 0 {
		return
	}
	all := slices.Sorted(maps.Keys(twice))
	r.note("%d usernames are of several people and were left out, such as %s", len(all), quoted(all[0]))
	for _, e := range r.list.Entries {
		if p := e.Object.Person; p != nil {
			p.Usernames = slices.DeleteFunc(p.Usernames, func(name string) bool { return twice[name] })
		}
	}
}
