package peercheck

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// ErrWrongCode is returned if the other host does not know the code.
var ErrWrongCode = errors.New("the host that answers does not know the code")

// codeMACHeader is the HTTP header with each side's MAC of the code.
const codeMACHeader = "Plinth-Peer-MAC"

// requestTimeout limits one request; it includes the checks that the other host
// runs in reverse.
const requestTimeout = 12 * time.Second

// NewCode returns a random code for one run of checks: 130 bits, as text.
func NewCode() string { return rand.Text() }

// codeMAC returns a MAC of one TLS connection that shows knowledge of the code:
// a host in the middle has two connections with different keys, so it cannot
// forward the MAC of one to the other.
func codeMAC(state *tls.ConnectionState, code, side string) (string, error) {
	key, err := state.ExportKeyingMaterial("plinth peer check", nil, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, []byte(strings.TrimSpace(code)))
	_, _ = mac.Write(append([]byte(side), key...))
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// RequireCode returns a handler that passes requests to next only from clients
// that know the code, and shows them that this host knows it, too.
func RequireCode(code string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want, err := codeMAC(r.TLS, code, "asks")
		if err != nil || !hmac.Equal([]byte(want), []byte(r.Header.Get(codeMACHeader))) {
			http.Error(w, "the code is wrong", http.StatusUnauthorized)
			return
		}
		mine, err := codeMAC(r.TLS, code, "answers")
		if err != nil {
			http.Error(w, "cannot compute the MAC of the code", http.StatusInternalServerError)
			return
		}
		w.Header().Set(codeMACHeader, mine)
		next.ServeHTTP(w, r)
	})
}

// NewCertificate returns a self-signed certificate that is valid for one day
// before and after now. It does not identify the host: the code does.
func NewCertificate(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &t, &t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// SendRequest sends ask to the host at address and returns its response. It
// returns ErrWrongCode if that host does not show that it knows the code.
func SendRequest(ctx context.Context, address netip.AddrPort, code string, ask Request) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// The certificate is not verified: the MACs are bound to this connection and
	// are not valid for any other.
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 3 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}
	raw, err := d.DialContext(ctx, "tcp", address.String())
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = raw.Close() }()
	end, _ := ctx.Deadline()
	_ = raw.SetDeadline(end)
	state := raw.(*tls.Conn).ConnectionState()
	mine, err := codeMAC(&state, code, "asks")
	if err != nil {
		return Response{}, err
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return Response{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address.String()+RequestPath, bytes.NewReader(body))
	if err != nil {
		return Response{}, err
	}
	req.Header.Set(codeMACHeader, mine)
	if err := req.Write(raw); err != nil {
		return Response{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(raw), req)
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	theirs, err := codeMAC(&state, code, "answers")
	if err != nil || !hmac.Equal([]byte(theirs), []byte(resp.Header.Get(codeMACHeader))) {
		return Response{}, ErrWrongCode
	}
	if resp.StatusCode != http.StatusOK {
		return Response{}, fmt.Errorf("the host responds with %s", resp.Status)
	}
	return DecodeResponse(io.LimitReader(resp.Body, maxBodyBytes))
}

// DecodeResponse reads and validates a Response.
func DecodeResponse(r io.Reader) (Response, error) {
	var a Response
	if err := json.NewDecoder(r).Decode(&a); err != nil {
		return a, err
	}
	return a, a.Validate()
}

// Validate returns an error if the response cannot be used.
func (a Response) Validate() error {
	if len(a.Nonce) != nonceLength {
		return errors.New("the response has no nonce")
	}
	return nil
}
