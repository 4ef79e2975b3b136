package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/internal/agent"
)

var _ blob.Source = (*Cluster)(nil)

// maxTries is how many times each node is asked for one blob.
const maxTries = 3

// Open gives a blob that nodes hold, proved while it is read. Where a node
// fails, the next one goes on at the same byte.
func (c *Cluster) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := blob.Check(desc); err != nil {
		return nil, err
	}
	s := &stream{c: c, ctx: ctx, path: agent.BlobPath + "/blobs/" + desc.Digest.String(), size: desc.Size, first: int(c.next.Add(1))}
	if desc.Size > 0 {
		if err := s.connect(); err != nil {
			return nil, fmt.Errorf("no node gives %s: %w", desc.Digest, err)
		}
	}
	return blob.NewReader(ctx, s, desc, "the cluster's nodes"), nil
}

// Document gives a small blob of unknown size, up to limit bytes, proved.
func (c *Cluster) Document(ctx context.Context, d digest.Digest, limit int64) ([]byte, error) {
	var errs []error
	for _, address := range c.token.Addresses {
		res, err := c.do(ctx, http.MethodGet, "https://"+address+agent.BlobPath+"/blobs/"+d.String(), nil, nil)
		if err == nil {
			var data []byte
			data, err = io.ReadAll(io.LimitReader(res.Body, limit+1))
			_ = res.Body.Close()
			if err == nil && digest.FromBytes(data) == d {
				return data, nil
			}
			err = errors.Join(err, errors.New("what it gives is not "+d.String()))
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return nil, errors.Join(errs...)
}

// stream is a blob read from one node after the other.
type stream struct {
	c     *Cluster
	ctx   context.Context
	path  string
	size  int64
	at    int64 // bytes delivered
	first int   // whom to ask first
	tries int
	body  io.ReadCloser
}

// connect asks the next node for what is still to come.
func (s *stream) connect() error {
	nodes := s.c.token.Addresses
	var errs []error
	for ; s.tries < maxTries*len(nodes); s.tries++ {
		address := nodes[(s.first+s.tries)%len(nodes)]
		header := http.Header{}
		if s.at > 0 {
			header.Set("Range", fmt.Sprintf("bytes=%d-", s.at))
		}
		res, err := s.c.do(s.ctx, http.MethodGet, "https://"+address+s.path, nil, header)
		if err == nil && s.at > 0 && res.StatusCode != http.StatusPartialContent {
			_ = res.Body.Close()
			err = errors.New("it does not go on where another node stopped")
		}
		if err == nil {
			s.body = res.Body
			s.tries++
			return nil
		}
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
		var no *Denied
		if errors.As(err, &no) {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *stream) Read(p []byte) (int, error) {
	for s.at < s.size {
		n, err := s.body.Read(p)
		s.at += int64(n)
		if n > 0 || err == nil {
			return n, nil
		}
		_ = s.body.Close()
		if err := s.connect(); err != nil {
			return 0, fmt.Errorf("after %d of %d bytes: %w", s.at, s.size, err)
		}
	}
	return 0, io.EOF
}

func (s *stream) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}
