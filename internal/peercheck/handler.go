package peercheck

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// idleTimeout is how long the ports stay bound after the last request.
const idleTimeout = 15 * time.Second

// maxBodyBytes limits the body of a Request or Response.
const maxBodyBytes = 64 << 10

// Handler responds to the peer checks of other hosts. The caller must ensure
// that only permitted hosts reach it. It binds ports only while there are
// requests.
type Handler struct {
	Self       func() (i Identity, mtu int) // identity of this host, and the size of its full packets in bytes
	Controller bool                         // this host is, or may become, a controller
	IsNode     bool                         // this host is already a node
	Now        func() time.Time

	mu         sync.Mutex
	listeners  *Listeners
	closeTimer *time.Timer
}

// ServeHTTP responds to one Request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := h.Now().UTC()
	var ask Request
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil {
		err = json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes)).Decode(&ask)
	}
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "not a peer check request", http.StatusBadRequest)
		return
	}
	listeners := h.ensureListeners(context.WithoutCancel(r.Context()))
	identity, mtu := h.Self()
	answer := Response{Received: received, Identity: identity, Controller: h.Controller, Nonce: listeners.Nonce, Ports: listeners.Ports, MTU: mtu,
		// Connect only to the requesting host, and only to ports of a node.
		Reverse: CheckPorts(r.Context(), from.Addr().Unmap(), ask.Nonce, FilterPorts(ask.Ports, RequiredPorts(h.Controller, ask.Controller)), min(ask.MTU, mtu))}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the client may have disconnected
}

// ensureListeners binds the ports, or keeps them bound for another idleTimeout.
func (h *Handler) ensureListeners(ctx context.Context) *Listeners {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = OpenListeners(ctx, RequiredPorts(true, h.Controller), UDPPort, h.IsNode)
		h.closeTimer = time.AfterFunc(idleTimeout, h.Close)
	} else {
		h.closeTimer.Reset(idleTimeout)
	}
	return h.listeners
}

// Close releases the ports.
func (h *Handler) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners != nil {
		h.closeTimer.Stop()
		h.listeners.Close()
		h.listeners = nil
	}
}
