package watch

import (
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/jsonscan"
)

// object is an object of a list or of a watch. Only what context keeps of it is ever decoded: no managed fields, no
// containers with their environment.
type object struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	key   context.Key
	kept  *context.Object
	fault error // why it could not be read
}

// DeepCopyObject makes an object a runtime.Object. What is kept is never changed, so copies share it.
func (o *object) DeepCopyObject() runtime.Object {
	c := *o
	o.DeepCopyInto(&c.ObjectMeta)
	return &c
}

// page is a page of a list.
type page struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []object
}

// DeepCopyObject makes a page a runtime.Object.
func (p *page) DeepCopyObject() runtime.Object {
	c := *p
	c.Items = make([]object, len(p.Items))
	for i := range p.Items {
		c.Items[i] = *p.Items[i].DeepCopyObject().(*object)
	}
	return &c
}

// readObject reads one object. One that cannot be read is returned too, with the reason: it must not end the watch of the others.
func readObject(kind context.Kind, text []byte) object {
	key, kept, err := context.ReadObject(kind, text)
	o := object{key: key, kept: kept, fault: err}
	o.Namespace, o.Name = key.Namespace, key.Name
	// Of a bookmark this is all there is.
	if meta, ok := jsonscan.Get(text, "metadata"); ok {
		o.ResourceVersion = textOf(meta, "resourceVersion")
	}
	return o
}

func textOf(object []byte, key string) string {
	if v, ok := jsonscan.Get(object, key); ok {
		s, _ := jsonscan.String(v)
		return s
	}
	return ""
}

// readPage reads the answer to a list request.
func readPage(kind context.Kind, text []byte) (*page, error) {
	if err := jsonscan.Valid(text); err != nil {
		return nil, fmt.Errorf("the list is no JSON: %w", err)
	}
	items, ok := jsonscan.Get(text, "items")
	if !ok || items[0] != '[' && string(items) != "null" {
		return nil, errors.New("the answer has no items: is this an API server?")
	}
	p := &page{}
	if meta, ok := jsonscan.Get(text, "metadata"); ok {
		p.ResourceVersion, p.Continue = textOf(meta, "resourceVersion"), textOf(meta, "continue")
	}
	if items[0] == '[' {
		for it := jsonscan.Array(items); it.Next(); {
			p.Items = append(p.Items, readObject(kind, it.Value()))
		}
	}
	return p, nil
}

// codec lets client-go read objects of one kind as we keep them, and everything else that an API server says (Status,
// the frames of watches) as client-go does.
type codec struct {
	kind  context.Kind
	plain runtime.Serializer
}

func newCodec(kind context.Kind) codec {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return codec{kind, json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})}
}

// SupportedMediaTypes is JSON alone.
func (c codec) SupportedMediaTypes() []runtime.SerializerInfo {
	return []runtime.SerializerInfo{{
		MediaType: runtime.ContentTypeJSON, MediaTypeType: "application", MediaTypeSubType: "json", EncodesAsText: true, Serializer: c,
		StreamSerializer: &runtime.StreamSerializerInfo{EncodesAsText: true, Serializer: c.plain, Framer: json.Framer},
	}}
}

// EncoderForVersion is not used: nothing is ever sent.
func (c codec) EncoderForVersion(e runtime.Encoder, _ runtime.GroupVersioner) runtime.Encoder {
	return e
}

// DecoderToVersion decodes as it is.
func (c codec) DecoderToVersion(runtime.Decoder, runtime.GroupVersioner) runtime.Decoder { return c }

// Decode reads an object of the kind, or a Status.
func (c codec) Decode(text []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if jsonscan.Valid(text) != nil || textOf(text, "kind") == "Status" {
		return c.plain.Decode(text, defaults, into)
	}
	o := readObject(c.kind, text)
	return &o, &schema.GroupVersionKind{Version: "v1", Kind: c.kind.String()}, nil
}

// Encode is not used: nothing is ever sent.
func (c codec) Encode(o runtime.Object, w io.Writer) error { return c.plain.Encode(o, w) }

// Identifier names the encoding.
func (c codec) Identifier() runtime.Identifier { return c.plain.Identifier() }
