package schemas

import "time"

// Event is one row of audit.enriched.v1: an audit event as decoded, with who and why.
// Strings may share memory with Raw, so an Event is valid only as long as Raw is.
// An empty string or a zero is written as null: the event did not have it.
// The meaning of each field is the Doc of its column (see Columns).
type Event struct {
	// record
	EventID      ID
	Fingerprint  ID
	Cluster      string
	Platform     string
	Source       string
	ReceivedAt   int64 // µs since 1970
	RawPartition int32
	RawOffset    int64
	Damage       string
	Version      int64 // 0 unless this row corrects an earlier one

	// request
	EventTime       int64 // µs since 1970; 0 if unknown
	StageTime       int64
	Duration        int64 // µs
	Level           string
	Stage           string
	AuditID         string
	Verb            string
	RequestURI      string
	APIGroup        string
	APIVersion      string
	Resource        string
	Subresource     string
	Namespace       string
	Name            string
	ObjectUID       string
	ResourceVersion string
	UserAgent       string
	Client          string
	ClientVersion   string
	Command         []string
	Code            uint16 // 0 if unknown
	Status          string
	Reason          string
	Message         string
	Outcome         string
	Decision        string
	DecisionReason  string
	Annotations     []KeyValue

	// caller
	Caller                  uint64 // not a column: equal numbers mean equal User, UserUID, Groups and Extra; 0 if that is not known
	User                    string
	UserUID                 string
	Groups                  []string
	Extra                   []KeyValues
	CredentialID            string
	ImpersonatedUser        string
	ImpersonatedUID         string
	ImpersonatedGroups      []string
	ImpersonatedExtra       []KeyValues
	ImpersonationConstraint string
	SourceIP                string
	SourceIPs               []string

	// who
	Actor              string
	ActorKind          string
	Provider           string
	Pod                string
	Node               string
	IssuedCredentialID string
	DisplayName        string
	Email              string
	Team               string
	Manager            string
	Active             string // True, False or empty: unknown
	ActorGroups        []string
	Workload           string
	CloudIdentity      string
	MintedBy           string
	MintedAt           int64 // µs since 1970
	Session            string
	SourceZone         string
	SourceCountry      string
	SourceNetwork      string
	SourceNode         string
	OffNode            string // True, False or empty
	NamespaceOwner     string
	NamespaceLabels    []KeyValue

	// why
	Authorizer       string
	GrantBindingKind string
	GrantBinding     string
	GrantRoleKind    string
	GrantRole        string
	GrantSubjectKind string
	GrantSubject     string

	GrantAgreement       string
	GrantSince           int64 // µs since 1970
	GrantAuthor          string
	Grants               []string
	RightsComplete       string // True, False or empty
	RightsSince          int64  // µs since 1970
	RightsAge            int64  // µs
	Breadth              uint16 // 0 to 100; 0 is nothing or unknown
	ClusterAdmin         string // True, False or empty
	Dangerous            []string
	ImpersonationAllowed string // True, False or empty
	ImpersonationGrants  []string
	CallerBreadth        uint16
	CallerDangerous      []string

	Raw []byte

	RequestObject, ResponseObject []byte // no columns: the objects or arrays of that name in Raw, nil if there are none
}

// The values of the columns that are yes, no or not known.
const (
	True  = "true"
	False = "false"
)

// KeyValue is one entry of a map column.
type KeyValue struct{ Key, Value string }

// KeyValues is one entry of a map column whose values are lists.
type KeyValues struct {
	Key    string
	Values []string
}

// Reset empties e and keeps the memory of its slices for the next event.
func (e *Event) Reset() {
	*e = Event{
		Command:            e.Command[:0],
		Annotations:        e.Annotations[:0],
		ImpersonatedGroups: e.ImpersonatedGroups[:0],
		ImpersonatedExtra:  e.ImpersonatedExtra[:0],
		SourceIPs:          e.SourceIPs[:0],
	}
	// The lists of the caller, who and why are shared with whoever worked them out: they are set, never appended to.
}

// Micros converts a time to the unit of the time columns.
func Micros(t time.Time) int64 { return t.UnixMicro() }
