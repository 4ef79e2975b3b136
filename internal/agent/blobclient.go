package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/internal/wait"
)

var _ blob.Source = (*Client)(nil)

// maxTries is how many times a blob is requested from each node.
const maxTries = 3

// Open returns a blob from the nodes of the cluster, which is verified while it
// is read. If a node fails, the next one continues at the same byte.
func (c *Client) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := blob.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	s := &blobStream{client: c, ctx: ctx, digest: desc.Digest, size: desc.Size, firstNode: int(c.nextNode.Add(1))}
	if desc.Size > 0 {
		if err := s.connectNext(); err != nil {
			return nil, fmt.Errorf("cannot get %s from any node: %w", desc.Digest, err)
		}
	}
	return blob.NewReader(ctx, s, desc, "the cluster's nodes"), nil
}

// requestBlob requests a blob from one node.
func (c *Client) requestBlob(ctx context.Context, address string, d digest.Digest, header http.Header) (*http.Response, error) {
	res, err := doRequest(ctx, c.connections.Load().nodes, clientRequest{http.MethodGet, "https://" + address + BlobPath + "/blobs/" + d.String(), c.token.ReadOnlyBearer(), nil}, header)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return res, nil
}

// ReadDocument returns a small blob of unknown size, at most limit bytes,
// verified.
func (c *Client) ReadDocument(ctx context.Context, d digest.Digest, limit int64) ([]byte, error) {
	if len(c.token.Addresses) == 0 {
		return nil, errNoController
	}
	var errs []error
	for _, address := range c.token.Addresses {
		res, err := c.requestBlob(ctx, address, d, nil)
		if err == nil {
			var data []byte
			data, err = io.ReadAll(io.LimitReader(res.Body, limit+1))
			_ = res.Body.Close()
			if err == nil && digest.FromBytes(data) == d {
				return data, nil
			}
			err = fmt.Errorf("%s: %w", address, errors.Join(err, errors.New("the content does not match "+d.String())))
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// blobStream is a blob that is read from one node after another.
type blobStream struct {
	client    *Client
	ctx       context.Context
	digest    digest.Digest
	size      int64
	offset    int64 // bytes that were read
	firstNode int   // index of the node to try first
	tries     int
	busyWait  time.Duration // time spent waiting for busy nodes
	body      io.ReadCloser
}

// How long nodes are not asked again.
const (
	failedRetryDelay = 30 * time.Second // a node that could not be reached
	busyRetryDelay   = time.Second      // all nodes, if one of them serves too many blobs
	maxBusyWait      = 10 * time.Minute // in total for one blob
)

// connectNext connects to the next node that has the rest of the blob, until
// each one was tried maxTries times.
func (s *blobStream) connectNext() error {
	nodes := s.client.blobNodes
	var errs []error
	busy := false
	for ; s.tries < maxTries*len(nodes); s.tries++ {
		address := nodes[(s.firstNode+s.tries)%len(nodes)]
		if s.tries < len(nodes) && s.client.recentlyFailed(address) {
			continue
		}
		err := s.connectTo(address)
		if err == nil {
			s.tries++
			return nil
		}
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		var no *DeniedError
		var later *overloadedError
		switch {
		case errors.As(err, &no) && slices.Contains(s.client.token.Addresses, address):
			return err // all nodes would respond like this controller
		case errors.As(err, &later):
			busy = true
		default:
			errs = append(errs, err)
		}
		if busy && (s.tries+1)%len(nodes) == 0 && s.busyWait < maxBusyWait {
			busy = false
			s.tries -= len(nodes) // a busy node does not count as failed
			s.busyWait += busyRetryDelay
			if err := wait.Sleep(s.ctx, busyRetryDelay); err != nil {
				return err
			}
		}
	}
	return errors.Join(errs...)
}

// recentlyFailed reports whether the node at address could not be reached
// recently.
func (c *Client) recentlyFailed(address string) bool {
	at, ok := c.failedAt.Load(address)
	return ok && time.Since(at.(time.Time)) < failedRetryDelay
}

// connectTo requests the rest of the blob from the node at address.
func (s *blobStream) connectTo(address string) error {
	header := http.Header{}
	if s.offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", s.offset))
	}
	res, err := s.client.requestBlob(s.ctx, address, s.digest, header)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			s.client.failedAt.Store(address, time.Now())
		}
		return err
	}
	if s.offset > 0 && res.StatusCode != http.StatusPartialContent {
		_ = res.Body.Close()
		return errors.New(address + ": it cannot resume a partial blob")
	}
	s.body = res.Body
	return nil
}

func (s *blobStream) Read(p []byte) (int, error) {
	for s.offset < s.size {
		n, err := s.body.Read(p)
		s.offset += int64(n)
		if n > 0 || err == nil {
			return n, nil
		}
		_ = s.body.Close()
		if err := s.connectNext(); err != nil {
			return 0, fmt.Errorf("after %d of %d bytes: %w", s.offset, s.size, err)
		}
	}
	return 0, io.EOF
}

func (s *blobStream) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}
