package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
)

// Snapshot returns a snapshot of the data of the local member, as the file that `etcdctl snapshot
// save` writes: the database, and its SHA-256 (etcd server/etcdserver/api/v3rpc/maintenance.go). The
// reader returns an error at its end if the hash does not match.
func (c *Client) Snapshot(ctx context.Context) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v3/maintenance/snapshot", bytes.NewReader([]byte("{}")))
	if err != nil {
		return nil, err
	}
	stream := *c.http
	stream.Timeout = 0 // the whole database is sent; ctx ends the request
	resp, err := stream.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("etcd returned %s", resp.Status), resp.Body.Close())
	}
	s := &snapshotReader{body: resp.Body, messages: json.NewDecoder(resp.Body)}
	return struct {
		io.Reader
		io.Closer
	}{VerifySnapshot(s), resp.Body}, nil
}

// snapshotReader reads the parts of a snapshot from the stream of JSON messages of etcd's gateway.
type snapshotReader struct {
	body     io.ReadCloser
	messages *json.Decoder
	rest     []byte // of the current part
	received int64
	missing  int64 // bytes that follow, as the last message says
}

func (s *snapshotReader) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		var m struct {
			Result struct {
				Blob      []byte `json:"blob"`
				Remaining int64  `json:"remaining_bytes,string"`
			} `json:"result"`
			Error *struct{ Message string } `json:"error"`
		}
		err := s.messages.Decode(&m)
		switch {
		case errors.Is(err, io.EOF) && s.missing == 0 && s.received > 0:
			return 0, io.EOF
		case errors.Is(err, io.EOF):
			return 0, fmt.Errorf("etcd ended the snapshot after %d bytes", s.received)
		case err != nil:
			return 0, err
		case m.Error != nil:
			return 0, errors.New("etcd: " + m.Error.Message)
		}
		s.rest, s.missing = m.Result.Blob, m.Result.Remaining
		s.received += int64(len(s.rest))
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// VerifySnapshot returns a reader of the snapshot r that returns an error at its end if the last 32
// bytes are not the SHA-256 of those before.
func VerifySnapshot(r io.Reader) io.Reader {
	return &verifyingReader{r: r, sum: sha256.New()}
}

type verifyingReader struct {
	r    io.Reader
	sum  hash.Hash // of everything read but tail
	tail []byte    // the last 32 bytes read
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.tail = append(v.tail, p[:n]...)
	if extra := len(v.tail) - sha256.Size; extra > 0 {
		v.sum.Write(v.tail[:extra])
		v.tail = append([]byte(nil), v.tail[extra:]...)
	}
	if errors.Is(err, io.EOF) && (len(v.tail) < sha256.Size || !bytes.Equal(v.sum.Sum(nil), v.tail)) {
		return n, errors.New("the snapshot of etcd is damaged: its hash does not match")
	}
	return n, err
}
