package schemas

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// Alert is the value of one record of audit.alerts.v1 and one row of the table alerts.
type Alert struct {
	ID       string    `json:"id"`        // AlertID of the rule and the event
	Rule     string    `json:"rule"`      // id of the rule
	Title    string    `json:"title"`     // title of the rule
	Severity string    `json:"severity"`  // informational, low, medium, high, critical
	Tags     []string  `json:"tags"`      // tags of the rule, MITRE ATT&CK techniques among them
	Time     time.Time `json:"time"`      // event_time of the event
	RaisedAt time.Time `json:"raised_at"` // when the rule was evaluated
	Summary  string    `json:"summary"`   // what happened, one sentence
	Next     string    `json:"next"`      // what to do about it, from the rule

	EventID     string `json:"event_id"`    // hexadecimal
	Fingerprint string `json:"fingerprint"` // hexadecimal
	AuditID     string `json:"audit_id"`
	Cluster     string `json:"cluster"`
	Actor       string `json:"actor"`
	ActorKind   string `json:"actor_kind"`
	User        string `json:"user"`
	// Impersonated is the user that User acted as; empty if none.
	Impersonated   string   `json:"impersonated_user"`
	SourceIP       string   `json:"source_ip"`
	UserAgent      string   `json:"user_agent"`
	Verb           string   `json:"verb"`
	APIGroup       string   `json:"api_group"`
	Resource       string   `json:"resource"`
	Subresource    string   `json:"subresource"`
	Namespace      string   `json:"namespace"`
	Name           string   `json:"name"`
	RequestURI     string   `json:"request_uri"`
	Command        []string `json:"command"`
	Code           uint16   `json:"code"`
	Outcome        string   `json:"outcome"`
	Decision       string   `json:"decision"`
	DecisionReason string   `json:"decision_reason"`
	// Query is SQL that shows the event and what the actor did around it.
	Query string `json:"query"`

	// GroupID is equal for alerts that a person wants to see as one: AlertGroup.
	GroupID string `json:"group_id"`
	// Events are those behind the alert: 1, or as many as a correlation counted. EventIDs are the newest of
	// them, at most MaxAlertEvents, oldest first; the fields above are those of the last.
	Events   uint64   `json:"events"`
	EventIDs []string `json:"event_ids"`
	// FirstTime and LastTime are the event_time of the first and the last of them.
	FirstTime time.Time `json:"first_time"`
	LastTime  time.Time `json:"last_time"`
	// Values are, for a correlation, its group-by fields and what it counted or computed, by name.
	Values map[string]string `json:"values"`

	// The rest says who and why: the columns of the same name of the event, as far as they were known when the
	// alert was raised. Empty is unknown, or does not apply.

	// Version is that of the event's row: an alert with the id of an earlier one and a higher version knows more.
	Version       uint64    `json:"version"`
	DisplayName   string    `json:"display_name"`
	Email         string    `json:"email"`
	Team          string    `json:"team"`
	Manager       string    `json:"manager"`
	Active        string    `json:"active"` // True, False or empty
	Workload      string    `json:"workload"`
	Pod           string    `json:"pod"`
	Node          string    `json:"node"`
	CloudIdentity string    `json:"cloud_identity"`
	CredentialID  string    `json:"credential_id"`
	MintedBy      string    `json:"minted_by"`
	MintedAt      time.Time `json:"minted_at,omitzero"`
	Session       string    `json:"session"`
	SourceZone    string    `json:"source_zone"`
	SourceCountry string    `json:"source_country"`
	SourceNetwork string    `json:"source_network"`
	SourceNode    string    `json:"source_node"`
	OffNode       string    `json:"off_node"` // True, False or empty
	// NamespaceOwner is the owner of the object's namespace.
	NamespaceOwner string `json:"namespace_owner"`
	// ImpersonationAllowed is True, False or empty; ImpersonationGrant is the first grant of the caller that allows it.
	ImpersonationAllowed string `json:"impersonation_allowed"`
	ImpersonationGrant   string `json:"impersonation_grant"`
	// Grant is the grant that the API server named, or else the first of those computed, in the API server's
	// words: ClusterRoleBinding "b" of ClusterRole "r" to Group "g". Grants is how many allow the request.
	Grant          string    `json:"grant"`
	Grants         uint64    `json:"grants"`
	GrantSince     time.Time `json:"grant_since,omitzero"`
	GrantAuthor    string    `json:"grant_author"`
	GrantAgreement string    `json:"grant_agreement"` // agree, disagree, unknown or empty
	RightsComplete string    `json:"rights_complete"` // True, False or empty
	// Breadth is 0 to 100, ClusterAdmin True, False or empty, Dangerous ids of dangerous permissions, the worst first:
	// of whose rights counted, that is of the impersonated user if there is one. See Dangers.
	Breadth         uint16   `json:"breadth"`
	ClusterAdmin    string   `json:"cluster_admin"`
	Dangerous       []string `json:"dangerous"`
	CallerBreadth   uint16   `json:"caller_breadth"` // of the caller, where it impersonates
	CallerDangerous []string `json:"caller_dangerous"`
}

// MaxAlertEvents bounds Alert.EventIDs.
const MaxAlertEvents = 100

// AlertID is deterministic: the same rule and the same event give the same id in a
// live run, a replay and a backtest. subject is the event_id for
// single-event rules.
func AlertID(rule, subject string) string {
	h := sha256.New()
	h.Write([]byte(rule))
	h.Write([]byte{0})
	h.Write([]byte(subject))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// AlertGroup is the group of the alerts of a rule with equal values, in hexadecimal: cluster, actor and target
// unless the rule says which.
func AlertGroup(rule string, values ...string) string {
	h := sha256.New()
	h.Write([]byte(rule))
	for _, v := range values {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(v)))
		h.Write(size[:])
		h.Write([]byte(v))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
