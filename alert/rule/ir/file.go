package ir

// File is a rule file. Name is how positions spell it.
type File struct {
	Name string
	Data []byte
}
