package agent

import (
	"net"
	"sync"
)

// limitedListener closes new connections at once while their peer, or all peers together, have
// too many. The last reservedConns connections are for known peers.
type limitedListener struct {
	net.Listener
	known   *knownPeers
	refused func(remote string) // receives the address of each refused connection

	mu    sync.Mutex
	total int
	peers map[string]int // open connections by peer
}

func limitConnections(l net.Listener, known *knownPeers, refused func(remote string)) *limitedListener {
	return &limitedListener{Listener: l, known: known, refused: refused, peers: map[string]int{}}
}

// Accept returns the next connection that is within the limits.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		remote := conn.RemoteAddr().String()
		if peer := peerOf(remote); l.add(peer) {
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.remove(peer) })}, nil
		}
		_ = conn.Close()
		l.refused(remote)
	}
}

// add counts a new connection of the peer, or returns false if there are too many.
func (l *limitedListener) add(peer string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := maxConns
	if !l.known.contains(peer) {
		limit -= reservedConns
	}
	if l.total >= limit || l.peers[peer] >= maxConnsPerPeer {
		return false
	}
	l.total++
	l.peers[peer]++
	return true
}

// remove counts the end of a connection.
func (l *limitedListener) remove(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.peers[peer]--; l.peers[peer] == 0 {
		delete(l.peers, peer)
	}
}

// limitedConn is a connection that is counted until it is closed.
type limitedConn struct {
	net.Conn
	release func()
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
