package watch

import (
	stdcontext "context"
	"errors"
	"net"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Reasons of failures, as metrics and logs name them.
const (
	failForbidden    = "forbidden"    // the ClusterRole lacks the kind
	failUnauthorized = "unauthorized" // the credentials are not or no longer good
	failAbsent       = "not_served"   // the API server does not have the kind
	failBusy         = "busy"         // it says so
	failUnreachable  = "unreachable"
	failTimeout      = "timeout"
	failConfig       = "configuration" // of the kubeconfig
	failOther        = "other"
)

func reasons() []string {
	return []string{failForbidden, failUnauthorized, failAbsent, failBusy, failUnreachable, failTimeout, failConfig, failOther}
}

// ofKind says whether a reason is about one kind and not the whole cluster.
func ofKind(reason string) bool {
	return reason == failForbidden || reason == failAbsent || reason == failOther
}

// configError wraps what is wrong before any request.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// reasonOf returns why a request failed and what may help.
func reasonOf(err error) (reason, remedy string) {
	var network net.Error
	var config configError
	switch {
	case errors.As(err, &config):
		return failConfig, "mend the kubeconfig; it is read again within a minute"
	case apierrors.IsForbidden(err):
		return failForbidden, "apply the ClusterRole of deploy/kubernetes/watch-rbac.yaml, or leave the kind out of watch.kinds"
	case apierrors.IsUnauthorized(err):
		return failUnauthorized, "renew the credentials of the kubeconfig"
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		return failAbsent, "leave the kind out of watch.kinds"
	case apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		return failBusy, "nothing: it is tried again"
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err),
		errors.Is(err, stdcontext.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return failTimeout, "see whether the API server is overloaded, or lower watch.page_size"
	case errors.As(err, &network):
		return failUnreachable, "see whether the API server runs and its address is right"
	}
	return failOther, "see the API server's log"
}
