package rule

import (
	"github.com/auditmill/auditmill/alert/rule/falco"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// parseFalco reads Falco files.
func parseFalco(files []File, o Options) (*ir.Pack, error) {
	return falco.Parse(files, falco.Options{Compatible: o.Compatible})
}
