package context

import "fmt"

// ReadObject reads one object as an API server writes it, of a list or a watch: what of it is kept. Items of lists do
// not say their kind, so the caller does.
func ReadObject(kind Kind, text []byte) (Key, *Object, error) {
	w, err := parseObject(text)
	if w == nil {
		return Key{}, nil, err
	}
	key := Key{Kind: kind, Name: w.name}
	if kind.Namespaced() {
		key.Namespace = w.namespace
	}
	if err != nil {
		return key, nil, fmt.Errorf("%s: %w", key, err)
	}
	if key.Name == "" || kind.Namespaced() != (key.Namespace != "") {
		return key, nil, fmt.Errorf("%s: metadata: a name and, for this kind, a namespace are needed", key)
	}
	return key, w.object(kind, nil), nil
}
