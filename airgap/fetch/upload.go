package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/limit"
)

// uploadPatience is how many times Options.Stall an upload may take without progress: a registry
// that stores content in an object store answers late.
const uploadPatience = 4

// maxDetail is how many characters of a registry's message an error repeats.
const maxDetail = 200

// OpenRepositoryForUpload is OpenRepository with the right to upload, too. A registry can refuse
// that right as late as at the first upload.
func OpenRepositoryForUpload(ctx context.Context, repo name.Repository, o Options) (*Repository, error) {
	return openRepository(ctx, repo, transport.PushScope, o)
}

// Upload is a blob to upload.
type Upload struct {
	Source    blob.Source // has the content
	Want      ocispec.Descriptor
	MountFrom string // another repository of the registry that has the blob; "" for none
}

// UploadBlob uploads a blob, unless the repository has it or the registry links it from
// Upload.MountFrom. counter counts the bytes that are in the repository. A failed upload is
// attempted again from its start.
func (r *Repository) UploadBlob(ctx context.Context, u Upload, counter *blob.Progress) error {
	there, err := r.client.exists(ctx, request{url: r.url + "/blobs/" + u.Want.Digest.String()})
	if err == nil && !there {
		return r.client.Retry(ctx, func() (bool, error) { return false, r.sendBlob(ctx, u, counter) })
	}
	counter.Add(int(u.Want.Size))
	return err
}

// UploadManifest stores a manifest under a tag or its digest, unless it is there under the digest.
func (r *Repository) UploadManifest(ctx context.Context, reference string, doc Document) error {
	at := r.url + "/manifests/" + reference
	if _, err := digest.Parse(reference); err == nil {
		if there, err := r.client.exists(ctx, request{url: at, accept: manifestTypes}); err != nil || there {
			return err
		}
	}
	return r.client.Retry(ctx, func() (bool, error) {
		watched, stop := watchStall(ctx, uploadPatience*r.client.Stall)
		defer stop()
		_, err := r.client.send(watched, http.MethodPut, at, content{bytes.NewReader(doc.Data), int64(len(doc.Data)), doc.MediaType})
		return false, err
	})
}

// IsNotFound reports whether err is the answer of a server that does not have what was requested.
func IsNotFound(err error) bool { return statusOf(err) == http.StatusNotFound }

// IsRefused reports whether err is the answer of a server that understood the request and refuses it.
func IsRefused(err error) bool { return statusOf(err) >= 400 && statusOf(err) < 500 }

// exists reports whether the server has what r requests. Any answer but success means that it does
// not: the upload that follows shows what is wrong.
func (c *Client) exists(ctx context.Context, r request) (there bool, err error) {
	r.method = http.MethodHead
	err = c.Retry(ctx, func() (bool, error) {
		watched, stop := watchStall(ctx, c.Stall)
		defer stop()
		resp, err := c.get(watched.ctx, r)
		if err != nil {
			return false, watched.wrapError(err, r.url)
		}
		there = true
		return false, resp.Body.Close()
	})
	if IsRefused(err) {
		return false, nil
	}
	return there, err
}

// sendBlob implements one attempt of UploadBlob, as the distribution specification says: POST starts
// an upload and may mount the blob instead, PATCH sends the content, PUT ends the upload.
func (r *Repository) sendBlob(ctx context.Context, u Upload, counter *blob.Progress) error {
	watched, stop := watchStall(ctx, uploadPatience*r.client.Stall)
	defer stop()
	resp, err := r.startUpload(watched, u)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusCreated { // mounted
		counter.Add(int(u.Want.Size))
		return nil
	}
	at, err := uploadLocation(resp, "")
	if err != nil {
		return err
	}
	source, err := blob.WithProgress(u.Source, counter).Open(watched.ctx, u.Want)
	if err != nil {
		return diskError(err)
	}
	defer func() { _ = source.Close() }()
	resp, err = r.client.send(watched, http.MethodPatch, at, content{source, u.Want.Size, "application/octet-stream"})
	if err == nil {
		at, err = uploadLocation(resp, u.Want.Digest)
	}
	if err == nil {
		_, err = r.client.send(watched, http.MethodPut, at, content{mediaType: "application/octet-stream"})
	}
	return err
}

// startUpload starts the upload of a blob, or mounts it from another repository.
func (r *Repository) startUpload(watched stallWatcher, u Upload) (*http.Response, error) {
	at := r.url + "/blobs/uploads/"
	if u.MountFrom != "" {
		mount := url.Values{"mount": {u.Want.Digest.String()}, "from": {u.MountFrom}}
		resp, err := r.client.send(watched, http.MethodPost, at+"?"+mount.Encode(), content{})
		if !IsRefused(err) { // a registry that does not mount starts an upload, or refuses the request
			return resp, err
		}
	}
	return r.client.send(watched, http.MethodPost, at, content{})
}

// uploadLocation returns the URL at which the upload of a response continues, or, with the digest of
// its content, ends.
func uploadLocation(resp *http.Response, end digest.Digest) (string, error) {
	at, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("%s does not tell where the upload continues: %w", withoutQuery(resp.Request.URL), ErrUnusable)
	}
	if end != "" {
		query := at.Query()
		query.Set("digest", end.String())
		at.RawQuery = query.Encode()
	}
	return at.String(), nil
}

// content is the body of a request; the zero value is none.
type content struct {
	io.Reader
	size      int64
	mediaType string // "" for none
}

// send sends a request with a body. The body of the response is closed. Any status but success is
// an error, which repeats what the server says about it.
func (c *Client) send(watched stallWatcher, method, at string, body content) (*http.Response, error) {
	req, err := http.NewRequestWithContext(watched.ctx, method, at, nil)
	if err != nil {
		return nil, err
	}
	if body.size > 0 {
		req.Body, req.ContentLength = io.NopCloser(watched.wrapReader(body.Reader)), body.size
	}
	if body.mediaType != "" {
		req.Header.Set("Content-Type", body.mediaType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var failed *url.Error // with the URL and its query
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, watched.wrapError(err, withoutQuery(req.URL))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		status := newStatusError(resp)
		status.url, status.detail = withoutQuery(resp.Request.URL), registryMessage(resp.Body)
		return nil, status
	}
	return resp, nil
}

// registryMessage returns the first error in the body of a registry's response, on one line of at
// most maxDetail characters; "" if there is none.
func registryMessage(body io.Reader) string {
	var answer struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	raw, err := io.ReadAll(io.LimitReader(body, limit.Response))
	if err = errors.Join(err, limit.UnmarshalJSON(raw, &answer)); err != nil || len(answer.Errors) == 0 {
		return ""
	}
	first := answer.Errors[0]
	text := strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, strings.TrimPrefix(first.Code+": "+first.Message, ": "))
	if runes := []rune(text); len(runes) > maxDetail {
		text = string(runes[:maxDetail]) + "…"
	}
	return strings.TrimSuffix(strings.TrimSpace(text), ":")
}
