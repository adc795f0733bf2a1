package context

import (
	"strconv"
	"sync"
)

// pool shares equal rules: the default roles are the same in all clusters.
type pool struct {
	mu    sync.Mutex
	known map[string][]Rule
	size  int
}

// maxPool bounds the keys of a pool, in bytes.
const maxPool = 32 << 20

func (p *pool) rules(rules []Rule) []Rule {
	if len(rules) == 0 {
		return nil
	}
	var key []byte
	for i := range rules {
		r := &rules[i]
		for _, list := range [...][]string{r.Verbs, r.APIGroups, r.Resources, r.ResourceNames, r.NonResourceURLs} {
			for _, s := range list {
				key = strconv.AppendInt(key, int64(len(s)), 10)
				key = append(append(key, ':'), s...)
			}
			key = append(key, ';')
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared, ok := p.known[string(key)]; ok {
		return shared
	}
	if p.known == nil || p.size > maxPool {
		p.known, p.size = map[string][]Rule{}, 0
	}
	p.known[string(key)] = rules
	p.size += len(key)
	return rules
}
