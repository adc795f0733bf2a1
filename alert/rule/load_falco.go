package rule

import "github.com/auditmill/auditmill/alert/rule/ir"

// parseFalco reads Falco files.
func parseFalco(files []File, _ Options) (*ir.Pack, error) {
	var faults Faults
	for _, f := range files {
		faults = append(faults, Fault{
			Position: ir.Position{File: f.Name}, Problem: "is a file of Falco rules, which this build cannot read",
			Remedy: "leave it out of the directory",
		})
	}
	return nil, faults.Err()
}
