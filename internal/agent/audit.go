package agent

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The events of the audit log.
const (
	AuditAdmission  = "admission"  // a host got what it needs to join
	AuditRefusal    = "refusal"    // a request or a connection was refused
	AuditLeave      = "leave"      // a node left the cluster
	AuditRevocation = "revocation" // a token, or the credentials of a node, were ended
	AuditUpgrade    = "upgrade"    // a controller started a phase of this node's upgrade
	AuditSupport    = "support"    // a controller started to collect this node's part of a support bundle
	AuditRemoval    = "removal"    // this host was removed from the cluster, so its agent stops k0s
	AuditRenewal    = "renewal"    // certificates of this host or of the cluster were renewed, or could not be
)

// AuditEvent is one line of the audit log. It contains no secrets.
type AuditEvent struct {
	Event  string // one of the constants above
	Node   string // Kubernetes name, as its certificate or else the client claims; "" if unknown
	Peer   string // IP address of the client; "" for a command on this host
	Token  string // ID of the token; "" for none
	Result string
}

// String returns the line. Values that a client has chosen are quoted and cut off.
func (e AuditEvent) String() string {
	quote := func(s string) string {
		if s == "" {
			return "-"
		}
		return strconv.Quote(s[:min(len(s), maxAuditedBytes)])
	}
	plain := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	return fmt.Sprintf("audit event=%s node=%s peer=%s token=%s result=%s", e.Event, quote(e.Node), plain(e.Peer), quote(e.Token), quote(e.Result))
}

// auditLog writes audit events, and limits the lines that strangers can cause.
type auditLog struct {
	write func(line string)
	now   func() time.Time
	total *rate.Limiter // of refusals

	mu      sync.Mutex
	peers   map[string]*refusals
	dropped int // refusals without a line, because total was reached
}

// refusals are those of one peer.
type refusals struct {
	at         time.Time // of the last line
	suppressed int       // refusals since
}

func newAuditLog(write func(string)) *auditLog {
	if write == nil {
		write = func(string) {}
	}
	return &auditLog{write: write, now: time.Now, total: rate.NewLimiter(auditPerSecond, auditAtOnce), peers: map[string]*refusals{}}
}

// record writes an event; each one is a line.
func (a *auditLog) record(e AuditEvent) { a.write(e.String()) }

// recordRefusal writes a refusal, unless a line about the same peer was written within
// auditInterval; the next line has the number of those without one. A known client has shown a
// valid token or certificate: its refusals are counted by their reason, apart from those of
// strangers at the same address.
func (a *auditLog) recordRefusal(e AuditEvent, known bool) {
	e.Event = AuditRefusal
	key := peerOf(e.Peer)
	if known {
		key += " " + e.Node + " " + e.Result
	}
	if line, ok := a.refusalLine(key, e); ok {
		a.write(line)
	}
}

// refusalLine returns the line for a refusal and whether it is to be written.
func (a *auditLog) refusalLine(key string, e AuditEvent) (line string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	p := a.peers[key]
	if p != nil && now.Sub(p.at) < auditInterval {
		p.suppressed++
		return "", false
	}
	if !a.total.AllowN(now, 1) {
		a.dropped++
		return "", false
	}
	var more []string
	if p != nil && p.suppressed > 0 {
		more = append(more, fmt.Sprintf("%d more of this peer since the last line", p.suppressed))
	}
	if a.dropped > 0 {
		more = append(more, fmt.Sprintf("%d more of all peers", a.dropped))
	}
	if len(a.peers) >= maxPeers {
		clear(a.peers)
	}
	a.peers[key], a.dropped = &refusals{at: now}, 0
	line = e.String()
	if len(more) > 0 {
		line += " not-logged=" + strconv.Quote(strings.Join(more, ", "))
	}
	return line, true
}
