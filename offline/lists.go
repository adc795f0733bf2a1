package offline

import (
	"io"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/directory"
)

// AddPeople adds a list of people to what is known, from a time in µs since 1970 on. file is for messages and is the
// name of the source.
func (c *Context) AddPeople(file string, in io.Reader, from int64) error {
	list, err := directory.ReadPeople(file, file, in)
	return c.addList(list, err, from)
}

// AddRanges adds a list of ranges of addresses.
func (c *Context) AddRanges(file string, in io.Reader, from int64) error {
	list, err := directory.ReadRanges(file, file, in)
	return c.addList(list, err, from)
}

func (c *Context) addList(list *directory.List, err error, from int64) error {
	if err != nil {
		return err
	}
	first, then := directory.PlanList(context.NewStore(context.DefaultConfig()), list, from).Changes()
	if c.Changes == nil {
		c.Changes = map[string][]context.Change{}
	}
	c.Changes[context.Organization] = append(append(c.Changes[context.Organization], first...), then...)
	return nil
}
