package schemas

// Group is the part of an event that a column belongs to.
type Group string

// The groups of columns, in their order.
const (
	GroupRecord  Group = "record"
	GroupRequest Group = "request"
	GroupCaller  Group = "caller"
	GroupWho     Group = "who"
	GroupWhy     Group = "why"
)

// Column is one column of an enriched event. The table of columns is the single source
// of the Arrow schema, the ClickHouse DDL, the fields of rules and docs/fields.md.
type Column struct {
	Name  string
	Group Group
	Type  Type
	// Path is where the value stands in an audit.k8s.io Event, with dots between keys;
	// empty for a derived column. Rules may use it as another name of the column.
	Path string
	// Codec is the ClickHouse codec, without CODEC(); empty for ZSTD(1).
	Codec string
	// Doc is one sentence for docs/fields.md.
	Doc string
	// Since is the number of the migration that adds the column to ClickHouse; 0 is the first.
	Since int

	str  func(*Event) *string
	num  func(*Event) int64
	id   func(*Event) ID
	list func(*Event) *[]string
	kv   func(*Event) *[]KeyValue
	kvs  func(*Event) *[]KeyValues
	raw  func(*Event) []byte
}

// Columns returns the columns of an enriched event, in order. raw is the last one.
func Columns() []Column {
	var all []Column
	all = append(all, recordColumns()...)
	all = append(all, requestColumns()...)
	all = append(all, callerColumns()...)
	all = append(all, whoColumns()...)
	all = append(all, whyColumns()...)
	return append(all, Column{
		Name: "raw", Group: GroupRecord, Type: TypeBytes, Codec: "ZSTD(3)",
		Doc: "The event's original bytes; request and response objects are read from here.",
		raw: func(e *Event) []byte { return e.Raw },
	})
}

func recordColumns() []Column {
	return in(GroupRecord, []Column{
		{
			Name: "event_id", Type: TypeID, Codec: "NONE", id: func(e *Event) ID { return e.EventID },
			Doc: "SHA-256(cluster ‖ 0x00 ‖ raw)[:16]: names these bytes.",
		},
		{
			Name: "fingerprint", Type: TypeID, Codec: "NONE", id: func(e *Event) ID { return e.Fingerprint },
			Doc: "Names the same event however it travelled; the Kafka key of the raw record.",
		},
		{
			Name: "cluster", Type: TypeDict, str: func(e *Event) *string { return &e.Cluster },
			Doc: "Cluster that sent the event, as authenticated or configured at ingest.",
		},
		{
			Name: "platform", Type: TypeDict, str: func(e *Event) *string { return &e.Platform },
			Doc: "kubernetes or docker.",
		},
		{
			Name: "source", Type: TypeDict, str: func(e *Event) *string { return &e.Source },
			Doc: "How the event came in: webhook or file.",
		},
		{
			Name: "received_at", Type: TypeTime, num: func(e *Event) int64 { return e.ReceivedAt }, Codec: "Delta, ZSTD(1)",
			Doc: "When ingest had the event.",
		},
		{
			Name: "raw_partition", Type: TypeInt32, num: func(e *Event) int64 { return int64(e.RawPartition) },
			Doc: "Partition of audit.raw.v1 that holds the original.",
		},
		{
			Name: "raw_offset", Type: TypeInt64, num: func(e *Event) int64 { return e.RawOffset }, Codec: "Delta, ZSTD(1)",
			Doc: "Offset in that partition.",
		},
		{
			Name: "damage", Type: TypeDict, str: func(e *Event) *string { return &e.Damage },
			Doc: "What is wrong with the event, comma-separated: truncated (the API server removed objects), recovered (found behind broken JSON), bad FIELD, duplicate FIELD.",
		},
		{
			Name: "version", Type: TypeInt64, num: func(e *Event) int64 { return e.Version }, Codec: "T64, ZSTD(1)", Since: 6,
			Doc: "0 for the first row of an event. A row that corrects it, because who or why became known late, has a higher one: the highest counts.",
		},
	})
}

//nolint:funlen // a table
func requestColumns() []Column {
	return in(GroupRequest, []Column{
		{
			Name: "event_time", Type: TypeTime, Path: "requestReceivedTimestamp", num: func(e *Event) int64 { return e.EventTime },
			Codec: "Delta, ZSTD(1)", Doc: "When the API server received the request: the time that rules and look-ups use.",
		},
		{
			Name: "stage_time", Type: TypeTime, Path: "stageTimestamp", num: func(e *Event) int64 { return e.StageTime },
			Codec: "Delta, ZSTD(1)", Doc: "When the request reached this stage.",
		},
		{
			Name: "duration", Type: TypeInt64, num: func(e *Event) int64 { return e.Duration },
			Doc: "stage_time − event_time in microseconds.",
		},
		{
			Name: "level", Type: TypeDict, Path: "level", str: func(e *Event) *string { return &e.Level },
			Doc: "Audit level: Metadata, Request or RequestResponse.",
		},
		{
			Name: "stage", Type: TypeDict, Path: "stage", str: func(e *Event) *string { return &e.Stage },
			Doc: "RequestReceived, ResponseStarted, ResponseComplete or Panic.",
		},
		{
			Name: "audit_id", Type: TypeString, Path: "auditID", str: func(e *Event) *string { return &e.AuditID },
			Doc: "Chosen by the client if it likes (header Audit-ID): never unique by itself.",
		},
		{
			Name: "verb", Type: TypeDict, Path: "verb", str: func(e *Event) *string { return &e.Verb },
			Doc: "Kubernetes verb, or the lower-case HTTP method of a non-resource request.",
		},
		{
			Name: "request_uri", Type: TypeString, Path: "requestURI", str: func(e *Event) *string { return &e.RequestURI },
			Doc: "Path and query.",
		},
		{
			Name: "api_group", Type: TypeDict, Path: "objectRef.apiGroup", str: func(e *Event) *string { return &e.APIGroup },
			Doc: "API group of the object; empty for the core group.",
		},
		{
			Name: "api_version", Type: TypeDict, Path: "objectRef.apiVersion", str: func(e *Event) *string { return &e.APIVersion },
			Doc: "API version of the object.",
		},
		{
			Name: "resource", Type: TypeDict, Path: "objectRef.resource", str: func(e *Event) *string { return &e.Resource },
			Doc: "Resource in the plural; empty for a non-resource request.",
		},
		{
			Name: "subresource", Type: TypeDict, Path: "objectRef.subresource", str: func(e *Event) *string { return &e.Subresource },
			Doc: "Subresource such as exec, status or token.",
		},
		{
			Name: "namespace", Type: TypeDict, Path: "objectRef.namespace", str: func(e *Event) *string { return &e.Namespace },
			Doc: "Namespace of the object; empty if cluster-wide.",
		},
		{
			Name: "name", Type: TypeString, Path: "objectRef.name", str: func(e *Event) *string { return &e.Name },
			Doc: "Name of the object; empty for list and deletecollection.",
		},
		{
			Name: "object_uid", Type: TypeString, Path: "objectRef.uid", str: func(e *Event) *string { return &e.ObjectUID },
			Doc: "UID of the object.",
		},
		{
			Name: "resource_version", Type: TypeString, Path: "objectRef.resourceVersion", str: func(e *Event) *string { return &e.ResourceVersion },
			Doc: "Resource version in the reference.",
		},
		{
			Name: "user_agent", Type: TypeDict, Path: "userAgent", str: func(e *Event) *string { return &e.UserAgent },
			Doc: "User agent as the client wrote it: not to be trusted.",
		},
		{
			Name: "client", Type: TypeDict, str: func(e *Event) *string { return &e.Client },
			Doc: "Program named by the user agent, such as kubectl.",
		},
		{
			Name: "client_version", Type: TypeDict, str: func(e *Event) *string { return &e.ClientVersion },
			Doc: "Its version, such as v1.34.1.",
		},
		{
			Name: "command", Type: TypeStrings, list: func(e *Event) *[]string { return &e.Command },
			Doc: "The command= parameters of exec, decoded, in order.",
		},
		{
			Name: "code", Type: TypeUint16, Path: "responseStatus.code", num: func(e *Event) int64 { return int64(e.Code) },
			Doc: "HTTP status code of the response; 0 if there was none yet.",
		},
		{
			Name: "status", Type: TypeDict, Path: "responseStatus.status", str: func(e *Event) *string { return &e.Status },
			Doc: "Success or Failure, where the response was a Status.",
		},
		{
			Name: "reason", Type: TypeDict, Path: "responseStatus.reason", str: func(e *Event) *string { return &e.Reason },
			Doc: "Reason of a Status, such as Forbidden.",
		},
		{
			Name: "message", Type: TypeString, Path: "responseStatus.message", str: func(e *Event) *string { return &e.Message },
			Doc: "Message of a Status.",
		},
		{
			Name: "outcome", Type: TypeDict, str: func(e *Event) *string { return &e.Outcome },
			Doc: "received, success, redirected, denied, unauthenticated, failed, error or panic, from stage, code and decision.",
		},
		{
			Name: "decision", Type: TypeDict, Path: "annotations.authorization.k8s.io/decision", str: func(e *Event) *string { return &e.Decision },
			Doc: "allow or forbid; empty if the request did not reach authorization.",
		},
		{
			Name: "decision_reason", Type: TypeDict, Path: "annotations.authorization.k8s.io/reason", str: func(e *Event) *string { return &e.DecisionReason },
			Doc: "The authorizer's reason, whole.",
		},
		{
			Name: "annotations", Type: TypeMap, Path: "annotations", kv: func(e *Event) *[]KeyValue { return &e.Annotations },
			Doc: "All annotations.",
		},
	})
}

func callerColumns() []Column {
	return in(GroupCaller, []Column{
		{
			Name: "user", Type: TypeDict, Path: "user.username", str: func(e *Event) *string { return &e.User },
			Doc: "The authenticated caller; empty if authentication failed.",
		},
		{
			Name: "user_uid", Type: TypeDict, Path: "user.uid", str: func(e *Event) *string { return &e.UserUID },
			Doc: "UID of the caller.",
		},
		{
			Name: "groups", Type: TypeDicts, Path: "user.groups", list: func(e *Event) *[]string { return &e.Groups },
			Doc: "Groups of the caller.",
		},
		{
			Name: "extra", Type: TypeMapList, Path: "user.extra", kvs: func(e *Event) *[]KeyValues { return &e.Extra },
			Doc: "Extra attributes of the caller.",
		},
		{
			Name: "credential_id", Type: TypeString, Path: "user.extra.authentication.kubernetes.io/credential-id",
			str: func(e *Event) *string { return &e.CredentialID },
			Doc: "The credential that was used: JTI=… of a token, X509SHA256=… of a certificate.",
		},
		{
			Name: "impersonated_user", Type: TypeDict, Path: "impersonatedUser.username", str: func(e *Event) *string { return &e.ImpersonatedUser },
			Doc: "The user that the caller acted as; authorization was decided for this one.",
		},
		{
			Name: "impersonated_uid", Type: TypeDict, Path: "impersonatedUser.uid", str: func(e *Event) *string { return &e.ImpersonatedUID },
			Doc: "UID of the impersonated user.",
		},
		{
			Name: "impersonated_groups", Type: TypeDicts, Path: "impersonatedUser.groups", list: func(e *Event) *[]string { return &e.ImpersonatedGroups },
			Doc: "Groups of the impersonated user.",
		},
		{
			Name: "impersonated_extra", Type: TypeMapList, Path: "impersonatedUser.extra", kvs: func(e *Event) *[]KeyValues { return &e.ImpersonatedExtra },
			Doc: "Extra attributes of the impersonated user.",
		},
		{
			Name: "impersonation_constraint", Type: TypeDict, Path: "authenticationMetadata.impersonationConstraint",
			str: func(e *Event) *string { return &e.ImpersonationConstraint },
			Doc: "impersonate:<mode> of a constrained impersonation.",
		},
		{
			Name: "source_ip", Type: TypeDict, str: func(e *Event) *string { return &e.SourceIP },
			Doc: "The last of source_ips: the peer of the API server, the only one that the client cannot forge.",
		},
		{
			Name: "source_ips", Type: TypeStrings, Path: "sourceIPs", list: func(e *Event) *[]string { return &e.SourceIPs },
			Doc: "X-Forwarded-For and X-Real-Ip as the client wrote them, then the peer.",
		},
	})
}

//nolint:funlen // a table
func whoColumns() []Column {
	return in(GroupWho, []Column{
		{
			Name: "actor", Type: TypeDict, str: func(e *Event) *string { return &e.Actor },
			Doc: "One stable identity of the caller: the person, role or service account behind user.",
		},
		{
			Name: "actor_kind", Type: TypeDict, str: func(e *Event) *string { return &e.ActorKind },
			Doc: "human, service_account, node, control_plane, cloud_service, anonymous, bootstrap or unknown.",
		},
		{
			Name: "provider", Type: TypeDict, str: func(e *Event) *string { return &e.Provider },
			Doc: "Who vouches for the identity: kubernetes, certificate, oidc, eks, gke, aks; empty if unknown.",
		},
		{
			Name: "pod", Type: TypeDict, str: func(e *Event) *string { return &e.Pod },
			Doc: "namespace/name of the pod that the caller's token is bound to.",
		},
		{
			Name: "node", Type: TypeDict, str: func(e *Event) *string { return &e.Node },
			Doc: "Node that the caller is, or that its token is bound to.",
		},
		{
			Name: "issued_credential_id", Type: TypeString, Path: "annotations.authentication.kubernetes.io/issued-credential-id",
			str: func(e *Event) *string { return &e.IssuedCredentialID },
			Doc: "The credential that this request minted; equal to credential_id of every later use.",
		},
		{
			Name: "display_name", Type: TypeDict, str: func(e *Event) *string { return &e.DisplayName }, Since: 6,
			Doc: "Name of the person, from the identity tables.",
		},
		{
			Name: "email", Type: TypeDict, str: func(e *Event) *string { return &e.Email }, Since: 6,
			Doc: "E-mail address of the person, from the identity tables.",
		},
		{
			Name: "team", Type: TypeDict, str: func(e *Event) *string { return &e.Team }, Since: 6,
			Doc: "Team of the person; for a service account the owner of its namespace.",
		},
		{
			Name: "manager", Type: TypeDict, str: func(e *Event) *string { return &e.Manager }, Since: 6,
			Doc: "Manager of the person, as the identity tables name them.",
		},
		{
			Name: "active", Type: TypeDict, str: func(e *Event) *string { return &e.Active }, Since: 6,
			Doc: "false if the person had left or was disabled at the time, true if not; empty if unknown.",
		},
		{
			Name: "actor_groups", Type: TypeDicts, list: func(e *Event) *[]string { return &e.ActorGroups }, Since: 6,
			Doc: "Names of the person's groups in the identity tables, beside those that the event names.",
		},
		{
			Name: "workload", Type: TypeDict, str: func(e *Event) *string { return &e.Workload }, Since: 6,
			Doc: "What runs the pod that the caller's token is bound to, such as Deployment payments/api; the top of its owners.",
		},
		{
			Name: "cloud_identity", Type: TypeDict, str: func(e *Event) *string { return &e.CloudIdentity }, Since: 6,
			Doc: "Identity of a cloud that the caller's service account is bound to: role ARN, Google service account or Entra client id.",
		},
		{
			Name: "minted_by", Type: TypeDict, str: func(e *Event) *string { return &e.MintedBy }, Since: 6,
			Doc: "The actor that requested the token which is used here; empty if that is not known.",
		},
		{
			Name: "minted_at", Type: TypeTime, num: func(e *Event) int64 { return e.MintedAt }, Codec: "Delta, ZSTD(1)", Since: 6,
			Doc: "When it was requested.",
		},
		{
			Name: "session", Type: TypeString, str: func(e *Event) *string { return &e.Session }, Since: 6,
			Doc: "Equal for the events of one actor with one credential from one source on one day (UTC).",
		},
		{
			Name: "source_zone", Type: TypeDict, str: func(e *Event) *string { return &e.SourceZone }, Since: 6,
			Doc: "Zone of source_ip: that of the narrowest configured range, else node, pod or loopback if the cluster has such an address; empty if unknown.",
		},
		{
			Name: "source_country", Type: TypeDict, str: func(e *Event) *string { return &e.SourceCountry }, Since: 6,
			Doc: "Country of source_ip, ISO 3166, from the MMDB files.",
		},
		{
			Name: "source_network", Type: TypeDict, str: func(e *Event) *string { return &e.SourceNetwork }, Since: 6,
			Doc: "Network of source_ip, such as AS64500 Example Ltd, from the MMDB files.",
		},
		{
			Name: "source_node", Type: TypeDict, str: func(e *Event) *string { return &e.SourceNode }, Since: 6,
			Doc: "Node of the cluster that source_ip belongs to: its own address, or one of its pods.",
		},
		{
			Name: "off_node", Type: TypeDict, str: func(e *Event) *string { return &e.OffNode }, Since: 6,
			Doc: "true if a token that is bound to a node was used from somewhere else, false if from there; empty if there is no such bond or the source's node is unknown.",
		},
		{
			Name: "namespace_owner", Type: TypeDict, str: func(e *Event) *string { return &e.NamespaceOwner }, Since: 6,
			Doc: "Owner of the object's namespace, by its labels and annotations owner, team or contact.",
		},
		{
			Name: "namespace_labels", Type: TypeMap, kv: func(e *Event) *[]KeyValue { return &e.NamespaceLabels }, Since: 6,
			Doc: "Labels of the object's namespace at the time.",
		},
	})
}

//nolint:funlen // a table
func whyColumns() []Column {
	return in(GroupWhy, []Column{
		{
			Name: "authorizer", Type: TypeDict, str: func(e *Event) *string { return &e.Authorizer },
			Doc: "Who decided, as far as the reason tells: rbac, eks, gke, azure, node, masters (group system:masters), none (nobody allowed it), other.",
		},
		{
			Name: "grant_binding_kind", Type: TypeDict, str: func(e *Event) *string { return &e.GrantBindingKind },
			Doc: "ClusterRoleBinding or RoleBinding that the API server named.",
		},
		{
			Name: "grant_binding", Type: TypeDict, str: func(e *Event) *string { return &e.GrantBinding },
			Doc: "Its name; namespace/name for a RoleBinding.",
		},
		{
			Name: "grant_role_kind", Type: TypeDict, str: func(e *Event) *string { return &e.GrantRoleKind },
			Doc: "ClusterRole or Role that it refers to.",
		},
		{
			Name: "grant_role", Type: TypeDict, str: func(e *Event) *string { return &e.GrantRole },
			Doc: "Name of that role.",
		},
		{
			Name: "grant_subject_kind", Type: TypeDict, str: func(e *Event) *string { return &e.GrantSubjectKind },
			Doc: "User, Group or ServiceAccount through which the binding applied.",
		},
		{
			Name: "grant_subject", Type: TypeDict, str: func(e *Event) *string { return &e.GrantSubject },
			Doc: "Name of that subject; namespace/name for a ServiceAccount.",
		},
		{
			Name: "grant_agreement", Type: TypeDict, str: func(e *Event) *string { return &e.GrantAgreement }, Since: 6,
			Doc: "agree if the grant that the API server named is among grants, or RBAC forbade and there are none; disagree if not although everything is known: the state is wrong, or the event; else unknown. Empty if RBAC decided nothing.",
		},
		{
			Name: "grant_since", Type: TypeTime, num: func(e *Event) int64 { return e.GrantSince }, Codec: "Delta, ZSTD(1)", Since: 6,
			Doc: "Since when the named binding, or else the first of grants, was as it is.",
		},
		{
			Name: "grant_author", Type: TypeDict, str: func(e *Event) *string { return &e.GrantAuthor }, Since: 6,
			Doc: "The actor that made it so, if that was recorded.",
		},
		{
			Name: "grants", Type: TypeDicts, list: func(e *Event) *[]string { return &e.Grants }, Since: 6,
			Doc: "Every grant that allows the request at its time, in the words of the API server, with the index of the rule: ClusterRoleBinding \"b\" of ClusterRole \"r\" to Group \"g\" by rule 0.",
		},
		{
			Name: "rights_complete", Type: TypeDict, str: func(e *Event) *string { return &e.RightsComplete }, Since: 6,
			Doc: "true if all roles and bindings of the cluster were known, false if some may be missing; empty if nothing was known.",
		},
		{
			Name: "rights_since", Type: TypeTime, num: func(e *Event) int64 { return e.RightsSince }, Codec: "Delta, ZSTD(1)", Since: 6,
			Doc: "When a role or binding of the cluster changed last before the event.",
		},
		{
			Name: "rights_age", Type: TypeInt64, num: func(e *Event) int64 { return e.RightsAge }, Since: 6,
			Doc: "event_time − rights_since in microseconds.",
		},
		{
			Name: "breadth", Type: TypeUint16, num: func(e *Event) int64 { return int64(e.Breadth) }, Since: 6,
			Doc: "How much the user may do (the impersonated one, if there is one): 0 nothing or unknown, 100 everything. docs/enrichment.md says how it is counted.",
		},
		{
			Name: "cluster_admin", Type: TypeDict, str: func(e *Event) *string { return &e.ClusterAdmin }, Since: 6,
			Doc: "true if the user may do everything on every resource of the cluster, false if not; empty if unknown.",
		},
		{
			Name: "dangerous", Type: TypeDicts, list: func(e *Event) *[]string { return &e.Dangerous }, Since: 6,
			Doc: "Ids of the dangerous permissions that the user holds, the worst first.",
		},
		{
			Name: "impersonation_allowed", Type: TypeDict, str: func(e *Event) *string { return &e.ImpersonationAllowed }, Since: 6,
			Doc: "true if a grant of the caller allows to act as the impersonated user with its groups, uid and extra, false if none is known; empty without impersonation or knowledge.",
		},
		{
			Name: "impersonation_grants", Type: TypeDicts, list: func(e *Event) *[]string { return &e.ImpersonationGrants }, Since: 6,
			Doc: "The grants of the caller that allow to act as that user, written like grants.",
		},
		{
			Name: "caller_breadth", Type: TypeUint16, num: func(e *Event) int64 { return int64(e.CallerBreadth) }, Since: 6,
			Doc: "breadth of the caller itself, where it impersonates.",
		},
		{
			Name: "caller_dangerous", Type: TypeDicts, list: func(e *Event) *[]string { return &e.CallerDangerous }, Since: 6,
			Doc: "dangerous of the caller itself, where it impersonates.",
		},
	})
}

func in(group Group, columns []Column) []Column {
	for i := range columns {
		columns[i].Group = group
	}
	return columns
}
