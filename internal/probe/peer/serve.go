package peer

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// idleTimeout is how long the ports stay bound after the last request.
const hold = 15 * time.Second

// maxBodyBytes limits the body of a Request or Response.
const maxAsk = 64 << 10

// Handler responds to the peer checks of other hosts. The caller must ensure
// that only permitted hosts reach it. It binds ports only while there are
// requests.
type Handler struct {
	Self       func() (i Identity, mtu int) // identity of this host, and the size of its full packets in bytes
	Controller bool                         // this host is, or may become, a controller
	Live       bool                         // this host is already a node
	Now        func() time.Time

	mu    sync.Mutex
	ears  *Ears
	close *time.Timer
}

// ServeHTTP responds to one Request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := h.Now().UTC()
	var ask Ask
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil {
		err = json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAsk)).Decode(&ask)
	}
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "not a peer check request", http.StatusBadRequest)
		return
	}
	listeners := h.listen(context.WithoutCancel(r.Context()))
	identity, mtu := h.Self()
	answer := Answer{Received: received, Identity: identity, Controller: h.Controller, Nonce: listeners.Nonce, Ears: listeners.All, MTU: mtu,
		// Connect only to the requesting host, and only to ports of a node.
		Back: Try(r.Context(), from.Addr().Unmap(), ask.Nonce, Among(ask.Ears, Ports(h.Controller, ask.Controller)), min(ask.MTU, mtu))}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the client may have disconnected
}

// ensureListeners binds the ports, or keeps them bound for another idleTimeout.
func (h *Handler) listen(ctx context.Context) *Ears {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ears == nil {
		h.ears = Open(ctx, Ports(true, h.Controller), UDPPort, h.Live)
		h.close = time.AfterFunc(hold, h.Close)
	} else {
		h.close.Reset(hold)
	}
	return h.ears
}

// Close releases the ports.
func (h *Handler) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ears != nil {
		h.close.Stop()
		h.ears.Close()
		h.ears = nil
	}
}
