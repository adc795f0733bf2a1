package rbac

import (
	"strings"
	"testing"
)

func FuzzNames(f *testing.F) {
	for _, path := range []string{
		"/api/v1/namespaces/a/pods", "/api/v1/namespaces/a", "/api/v1/namespaces/ab/pods", "/namespaces/namespaces/a", "/api/v1/pods", "", "/namespaces/",
	} {
		f.Add(path, "a")
		f.Add(path, "namespaces")
	}
	f.Fuzz(func(t *testing.T, path, namespace string) {
		if namespace == "" || strings.Contains(namespace, "/") {
			return // of an object in no namespace it is not asked; no namespace has a slash
		}
		if got, want := names(path, namespace), strings.Contains(path+"/", "/namespaces/"+namespace+"/"); got != want {
			t.Errorf("%q in %q: %t", namespace, path, got)
		}
	})
}
