// Package storetest is an object store for tests, in memory, with TLS, which checks signatures. It also writes snapshots as
// Velero does.
package storetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/plinthdev/plinth/internal/objectstore"
)

// The credentials of the store.
const (
	AccessKey = "access"
	SecretKey = "secret of the store"
)

// Server is a store with one bucket.
type Server struct {
	// Intercept answers a request instead of the store, if it returns true; nil for none.
	Intercept func(w http.ResponseWriter, r *http.Request) bool
	// Settings are how the store is reached.
	Settings objectstore.Settings

	server *httptest.Server
}

// New starts a store with the bucket.
func New(t *testing.T, bucket string) *Server {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	handler := gofakes3.New(backend).Server()
	s := &Server{}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Intercept != nil && s.Intercept(w, r) {
			return
		}
		if code := checkSignature(r); code != "" {
			Refuse(w, http.StatusForbidden, code)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse the certificate
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Settings = objectstore.Settings{Endpoint: s.server.URL, CAFile: ca, AccessKey: AccessKey, SecretKey: SecretKey}
	return s
}

// Stop ends the store.
func (s *Server) Stop() { s.server.Close() }

// Refuse answers a request with an error of S3.
func Refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>refused</Message></Error>", code)
}

// checkSignature returns the code with which S3 refuses the signature of a request, or "" if it is valid (AWS Signature
// Version 4, with the signature in the header).
func checkSignature(r *http.Request) string {
	fields := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[key] = value
	}
	key, scope, _ := strings.Cut(fields["Credential"], "/")
	if key != AccessKey {
		return "InvalidAccessKeyId"
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		if name == "content-length" {
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	query := strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20")
	request := strings.Join([]string{r.Method, r.URL.EscapedPath(), query, headers.String(), fields["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256")}, "\n")
	sum := sha256.Sum256([]byte(request))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n")
	signing := []byte("AWS4" + SecretKey)
	for part := range strings.SplitSeq(scope+"/", "/") {
		if part == "" {
			break
		}
		signing = sign(signing, part)
	}
	if hex.EncodeToString(sign(signing, text)) != fields["Signature"] {
		return "SignatureDoesNotMatch"
	}
	return ""
}

// sign returns the HMAC of text.
func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
