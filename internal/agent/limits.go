package agent

import (
	"maps"
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
	reservedConns   = 64               // connections of maxConns that only known peers get
	knownFor        = time.Hour        // how long a peer is known after an authenticated request
	headerTimeout   = 5 * time.Second  // for the TLS handshake, and for a request's header
	readTimeout     = 30 * time.Second // for a whole request
	writeTimeout    = 2 * time.Minute  // for a response; a join may wait for etcd
	idleTimeout     = time.Minute      // of a connection between two requests
	maxHeaderBytes  = 16 << 10         // of a request
	maxBodyBytes    = 64 << 10         // of a request

	maxNodeName  = 249 // bytes; with a prefix it is a key of the ConfigMap of the records
	maxMachineID = 64  // bytes; systemd's has 32

	failuresAtOnce    = 10   // refused requests of one peer in a burst, with those that are not authenticated yet
	failuresPerSecond = 1    // refused requests of one peer after the burst
	maxPeers          = 1024 // peers whose refused requests are counted; peers that are known

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

// knownPeers are the peers of which a request was authenticated within knownFor, by a node's
// certificate or a token. Strangers from many addresses cannot use up the connections for them.
type knownPeers struct {
	now  func() time.Time
	mu   sync.Mutex
	seen map[string]time.Time // last authenticated request
}

func newKnownPeers() *knownPeers {
	return &knownPeers{now: time.Now, seen: map[string]time.Time{}}
}

// add records an authenticated request. While maxPeers peers are known, it adds no other one.
func (k *knownPeers) add(peer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if _, ok := k.seen[peer]; !ok && len(k.seen) >= maxPeers {
		maps.DeleteFunc(k.seen, func(_ string, at time.Time) bool { return now.Sub(at) >= knownFor })
		if len(k.seen) >= maxPeers {
			return
		}
	}
	k.seen[peer] = now
}

// contains reports whether the peer is known.
func (k *knownPeers) contains(peer string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.seen[peer]
	return ok && k.now().Sub(at) < knownFor
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
// The pending ones are not counted for trusted peers, which have shown a node's certificate: a
// worker forwards many requests at once.
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
		a.peer.limiter.Reserve() // and not Allow: requests at the same time of a trusted peer all count
	}
}
