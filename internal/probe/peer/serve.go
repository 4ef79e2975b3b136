package peer

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// hold is how long the ports stay bound after the last host asked.
const hold = 15 * time.Second

// maxAsk bounds what is read of an Ask.
const maxAsk = 64 << 10

// Handler answers hosts that ask. Whoever mounts it has to make sure that they
// may. It binds ports only while it is asked.
type Handler struct {
	Self       func() (i Identity, mtu int) // what this host is, and the size of its full packets
	Controller bool                         // it is one, or may become one
	Live       bool                         // it is a node already
	Now        func() time.Time

	mu    sync.Mutex
	ears  *Ears
	close *time.Timer
}

// ServeHTTP answers one Ask.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := h.Now().UTC()
	var ask Ask
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil {
		err = json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAsk)).Decode(&ask)
	}
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "not a question between hosts", http.StatusBadRequest)
		return
	}
	ears := h.listen(context.WithoutCancel(r.Context()))
	identity, mtu := h.Self()
	answer := Answer{Received: received, Identity: identity, Controller: h.Controller, Nonce: ears.Nonce, Ears: ears.All, MTU: mtu,
		// Only the host that asks is reached, and only at ports of a node.
		Back: Try(r.Context(), from.Addr().Unmap(), ask.Nonce, Among(ask.Ears, Ports(h.Controller, ask.Controller)), min(ask.MTU, mtu))}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // who has gone needs no answer
}

// listen binds the ports, or keeps them bound.
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

// Close frees the ports.
func (h *Handler) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ears != nil {
		h.close.Stop()
		h.ears.Close()
		h.ears = nil
	}
}
