package directory

import "github.com/auditmill/auditmill/enrich/context"

// Kinds returns all kinds of objects, those of clusters first.
func Kinds() (all []context.Kind) {
	for k := context.Role; k <= context.Range; k++ {
		all = append(all, k)
	}
	return all
}
