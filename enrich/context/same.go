package context

import (
	"maps"
	"slices"
)

func (m *Metadata) same(o *Metadata) bool {
	return m.UID == o.UID && m.CreationTimestamp == o.CreationTimestamp && maps.Equal(m.Labels, o.Labels) &&
		maps.Equal(m.Annotations, o.Annotations) && samePointer(m.Owner, o.Owner)
}

func (a *AggregationRule) same(o *AggregationRule) bool {
	return a == o || a != nil && o != nil && slices.EqualFunc(a.Selectors, o.Selectors, Selector.same)
}

func (s Selector) same(o Selector) bool {
	return maps.Equal(s.MatchLabels, o.MatchLabels) && slices.EqualFunc(s.MatchExpressions, o.MatchExpressions, Expression.same)
}

func (e Expression) same(o Expression) bool {
	return e.Key == o.Key && e.Operator == o.Operator && slices.Equal(e.Values, o.Values)
}

func (p *PodInfo) same(o *PodInfo) bool {
	return p == o || p != nil && o != nil && p.Node == o.Node && p.ServiceAccount == o.ServiceAccount &&
		p.HostNetwork == o.HostNetwork && slices.Equal(p.IPs, o.IPs)
}

func (n *NodeInfo) same(o *NodeInfo) bool {
	return n == o || n != nil && o != nil && slices.Equal(n.Addresses, o.Addresses) && slices.Equal(n.PodCIDRs, o.PodCIDRs)
}

func (p *PersonInfo) same(o *PersonInfo) bool {
	return p == o || p != nil && o != nil && p.Name == o.Name && p.Email == o.Email && p.Team == o.Team && p.Manager == o.Manager &&
		p.Active == o.Active && slices.Equal(p.Usernames, o.Usernames) && slices.Equal(p.Groups, o.Groups)
}

func (g *GroupInfo) same(o *GroupInfo) bool {
	return g == o || g != nil && o != nil && g.Name == o.Name && slices.Equal(g.Members, o.Members)
}
