package watch

import (
	stdcontext "context"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/auditmill/auditmill/internal/obs"
)

// restConfig finds out how to reach a cluster and as whom.
func restConfig(c Cluster) (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	if c.InCluster {
		if cfg, err = rest.InClusterConfig(); err != nil {
			return nil, fmt.Errorf("in_cluster: %w; give the pod a service account, or a kubeconfig instead", err)
		}
	} else {
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: c.Kubeconfig},
			&clientcmd.ConfigOverrides{CurrentContext: c.Context}).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", c.Kubeconfig, err)
		}
	}
	cfg.UserAgent = "auditmill-watch/" + obs.Version().Version
	cfg.AcceptContentTypes, cfg.ContentType = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	// All kinds begin at once; after that there is a request every few minutes for each.
	cfg.QPS, cfg.Burst = 20, 40
	return cfg, nil
}

// api lists and watches one kind of object of one cluster. It is what a reflector asks of it.
type api struct {
	client *rest.RESTClient
	resource
	observer
}

// observer is told how requests went.
type observer interface {
	listing()          // a list begins
	listed()           // its first page is there
	connected()        // the watch is open
	failed(err error)  // a request failed
	expired(err error) // so did this one, because its resource version is too old: everything will be listed
}

func newAPI(cfg *rest.Config, r resource, o observer) (*api, error) {
	own := rest.CopyConfig(cfg)
	own.NegotiatedSerializer = newCodec(r.kind)
	client, err := rest.UnversionedRESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("making the client: %w", err)
	}
	return &api{client, r, o}, nil
}

// pageTimeout bounds the request of one page.
const pageTimeout = time.Minute

// ListWithContext reads one page.
func (a *api) ListWithContext(ctx stdcontext.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.Continue == "" {
		a.listing()
	}
	whole := ctx
	ctx, cancel := stdcontext.WithTimeout(ctx, pageTimeout)
	defer cancel()
	// Never with the resource version that the reflector proposes: the API server may then answer from a cache that is
	// behind, and what it has not got yet would be taken for deleted.
	req := a.client.Get().AbsPath(a.path)
	if o.Limit > 0 {
		req.Param("limit", strconv.FormatInt(o.Limit, 10))
	}
	if o.Continue != "" {
		req.Param("continue", o.Continue)
	}
	answer := req.Do(ctx)
	err := answer.Error() // says what the API server says, which Raw does not
	if err == nil {
		text, _ := answer.Raw() // has no error of its own
		var p *page
		if p, err = readPage(a.kind, text); err == nil {
			if o.Continue == "" {
				a.listed()
			}
			return p, nil
		}
	}
	a.lost(whole, err)
	return nil, err
}

// WatchWithContext opens a watch from a resource version on.
func (a *api) WatchWithContext(ctx stdcontext.Context, o metav1.ListOptions) (watch.Interface, error) {
	req := a.client.Get().AbsPath(a.path).Param("watch", "true").
		Param("resourceVersion", o.ResourceVersion).Param("allowWatchBookmarks", strconv.FormatBool(o.AllowWatchBookmarks))
	if o.TimeoutSeconds != nil {
		req.Param("timeoutSeconds", strconv.FormatInt(*o.TimeoutSeconds, 10))
	}
	w, err := req.Watch(ctx)
	if err != nil {
		a.lost(ctx, err)
		return nil, err
	}
	a.connected()
	return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		if e.Type == watch.Error {
			a.lost(ctx, apierrors.FromObject(e.Object))
		}
		return e, true
	}), nil
}

func (a *api) lost(ctx stdcontext.Context, err error) {
	switch {
	case ctx.Err() != nil: // we are stopping, or about to list everything again
	case apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
		a.expired(err)
	default:
		a.failed(err)
	}
}

// List is ListWithContext for those who have no context; the reflector does.
func (a *api) List(o metav1.ListOptions) (runtime.Object, error) {
	return a.ListWithContext(stdcontext.TODO(), o)
}

// Watch is WatchWithContext for those who have no context; the reflector does.
func (a *api) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return a.WatchWithContext(stdcontext.TODO(), o)
}

// IsWatchListSemanticsUnSupported keeps the reflector to lists in pages: they end, so that it is known when all is there,
// on every API server there is.
func (a *api) IsWatchListSemanticsUnSupported() bool { return true }
