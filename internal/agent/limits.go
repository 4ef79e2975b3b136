package agent

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The limits of the API: all that a client can use up, for one peer and for all together. A peer
// is an IPv4 address or an IPv6 /64 network. docs/guide/security.md has the same table.
const (
	maxConns        = 512              // open connections
	maxConnsPerPeer = 32               // open connections of one peer
	headerTimeout   = 5 * time.Second  // for the TLS handshake, and for a request's header
	readTimeout     = 30 * time.Second // for a whole request
	writeTimeout    = 2 * time.Minute  // for a response; a join may wait for etcd
	idleTimeout     = time.Minute      // of a connection between two requests
	maxHeaderBytes  = 16 << 10         // of a request
	maxBodyBytes    = 64 << 10         // of a request

	failuresAtOnce    = 10   // refused requests of one peer in a burst, with those that are not authenticated yet
	failuresPerSecond = 1    // refused requests of one peer after the burst
	maxPeers          = 1024 // peers whose refused requests are counted

	maxStreams    = 32               // blobs that are read at once
	WorkerStreams = 8                // likewise on a worker, whose network and CPUs are for its pods
	blobTimeout   = 15 * time.Minute // for one blob

	auditInterval   = time.Minute // between two lines about refusals of one peer
	auditAtOnce     = 20          // lines about refusals of all peers in a burst
	auditPerSecond  = 1           // lines about refusals of all peers after the burst
	maxAuditedBytes = 256         // of a field that a client has chosen
)

// peerOf returns the peer that a connection from the address, host:port, is counted for.
func peerOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	address := at.Addr().Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	network, err := address.Prefix(64) // one host may use all its addresses
	if err != nil {
		return address.String()
	}
	return network.String()
}

// failureCounter counts the refused requests of each peer.
type failureCounter struct {
	mu    sync.Mutex
	peers map[string]*peerFailures
}

// peerFailures is what is counted for one peer.
type peerFailures struct {
	limiter *rate.Limiter
	pending int // requests that are not authenticated yet
}

// attempt is one request until it is known whether its client is authenticated.
type attempt struct {
	counter *failureCounter
	peer    *peerFailures
	ended   bool
}

// begin returns the attempt of a request, or nil if the peer has too many refused requests.
// A pending attempt counts as refused, so that requests at the same time do not evade the limit.
// The pending ones are not counted for trusted peers, which TLS has verified.
func (c *failureCounter) begin(peer string, trusted bool) *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.peers[peer]
	if !ok {
		if len(c.peers) >= maxPeers { // start again at zero: memory is limited, and 160 bits cannot be guessed
			clear(c.peers)
		}
		p = &peerFailures{limiter: rate.NewLimiter(failuresPerSecond, failuresAtOnce)}
		c.peers[peer] = p
	}
	if p.limiter.Tokens() < float64(1+p.pending) {
		return nil
	}
	if trusted {
		return &attempt{counter: c, peer: &peerFailures{limiter: p.limiter}}
	}
	p.pending++
	return &attempt{counter: c, peer: p}
}

// end ends the attempt; refused counts it. Only the first call has an effect.
func (a *attempt) end(refused bool) {
	a.counter.mu.Lock()
	defer a.counter.mu.Unlock()
	if a.ended {
		return
	}
	a.ended = true
	a.peer.pending--
	if refused {
		a.peer.limiter.Allow()
	}
}
