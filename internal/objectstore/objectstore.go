// Package objectstore reads and writes the objects of a bucket in an S3-compatible store.
package objectstore

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// Scheme is the beginning of the URL of a bucket.
const Scheme = "s3://"

// IsURL reports whether text is meant as the URL of a bucket, and not as a path.
func IsURL(text string) bool { return strings.HasPrefix(text, Scheme) }

// Location is a bucket, and an object or a prefix in it.
type Location struct {
	Bucket string
	Key    string // "" for the whole bucket; does not begin or end with a slash
}

// bucketName matches the name of a bucket.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// ParseURL returns the location with the URL s3://BUCKET/KEY.
func ParseURL(text string) (Location, error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	bucket, key, _ := strings.Cut(rest, "/")
	l := Location{Bucket: bucket, Key: strings.Trim(key, "/")}
	switch {
	case !ok:
		return l, errors.New("it does not begin with " + Scheme)
	case strings.ContainsAny(rest, "?#"): // the message must not show what can be a secret
		return l, errors.New("the URL of a bucket has no query")
	case strings.Contains(rest, "@") && !bucketName.MatchString(bucket):
		return l, errors.New("the URL of a bucket has no credentials: they are in the environment, or in the file of --s3-credentials-file")
	case !bucketName.MatchString(bucket):
		return l, fmt.Errorf("%q is not the name of a bucket", bucket)
	case strings.ContainsAny(key, "\x00\n") || strings.Contains(key, "//") || strings.Contains("/"+key+"/", "/../"):
		return l, fmt.Errorf("%q is not a prefix", key)
	}
	return l, nil
}

// String returns the URL of the location.
func (l Location) String() string { return strings.TrimSuffix(Scheme+l.Bucket+"/"+l.Key, "/") }

// Join returns the location of name below l.
func (l Location) Join(name string) Location {
	l.Key = strings.TrimPrefix(l.Key+"/"+name, "/")
	return l
}

// Settings are how a store is reached. The zero value is the store of AWS, without credentials.
type Settings struct {
	Endpoint        string // URL; "" for that of AWS
	Region          string // "" for us-east-1, which most other stores accept
	CAFile          string // PEM file with authorities, instead of those of the system
	CredentialsFile string // in the format of AWS, with the profile Profile
	Profile         string // "" for default
	AccessKey       string
	SecretKey       string
	SessionToken    string
}

// WithEnvironment returns s with the usual variables of the environment for what is not set. Credentials in the environment
// are used before those in the file that it names, as the tools of AWS do, but not before a file in s.
func (s Settings) WithEnvironment(getenv func(string) string) Settings {
	set := func(field *string, names ...string) {
		for _, name := range names {
			if *field == "" {
				*field = getenv(name)
			}
		}
	}
	if s.CredentialsFile == "" {
		set(&s.AccessKey, "AWS_ACCESS_KEY_ID")
		set(&s.SecretKey, "AWS_SECRET_ACCESS_KEY")
		set(&s.SessionToken, "AWS_SESSION_TOKEN")
	}
	set(&s.CredentialsFile, "AWS_SHARED_CREDENTIALS_FILE")
	if home := getenv("HOME"); s.CredentialsFile == "" && home != "" {
		s.CredentialsFile = filepath.Join(home, ".aws", "credentials")
	}
	set(&s.Profile, "AWS_PROFILE")
	set(&s.Endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
	set(&s.Region, "AWS_REGION", "AWS_DEFAULT_REGION")
	set(&s.CAFile, "AWS_CA_BUNDLE")
	return s
}

// InEnvironment reports whether variables of the environment say how a store is reached. The home folder, where credentials
// may be, is none of them.
func InEnvironment(getenv func(string) string) bool {
	return Settings{}.WithEnvironment(func(name string) string {
		if name == "HOME" {
			return ""
		}
		return getenv(name)
	}) != Settings{}
}

// Access is how another program reaches the store of Settings: what those name is read.
type Access struct {
	Endpoint, Region                   string // Endpoint is "" for the store of AWS
	CA                                 []byte // PEM; nil for the authorities of the system
	AccessKey, SecretKey, SessionToken string
}

// Access returns how the store is reached.
func (s Settings) Access() (Access, error) {
	creds, err := s.credentials()
	if err != nil {
		return Access{}, err
	}
	a := Access{Endpoint: strings.TrimSuffix(s.Endpoint, "/"), Region: s.region(), AccessKey: creds.AccessKeyID, SecretKey: creds.SecretAccessKey, SessionToken: creds.SessionToken}
	if s.CAFile == "" {
		return a, nil
	}
	if _, err := s.authorities(); err != nil {
		return a, err
	}
	a.CA, err = readFile(s.CAFile)
	return a, err
}

// region returns the region of the store.
func (s Settings) region() string {
	if s.Region == "" {
		return "us-east-1"
	}
	return s.Region
}

// maxSettingsFile is the size limit of a file with settings, in bytes. The authorities of a system have 200 KB.
const maxSettingsFile = 1 << 20

// credentials returns the credentials of s.
func (s Settings) credentials() (credentials.Value, error) {
	v := credentials.Value{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey, SessionToken: s.SessionToken, SignerType: credentials.SignatureV4}
	if s.AccessKey != "" && s.SecretKey != "" {
		return v, nil
	}
	const hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file with --s3-credentials-file"
	if s.CredentialsFile == "" {
		return v, newError("there are no credentials for the object store", hint, nil)
	}
	raw, err := readFile(s.CredentialsFile)
	if errors.Is(err, os.ErrNotExist) {
		return v, newError("there are no credentials for the object store", hint, fmt.Errorf("%s: %w", s.CredentialsFile, err))
	}
	info, statErr := os.Stat(s.CredentialsFile)
	switch {
	case err != nil || statErr != nil:
		return v, newError("its credentials in "+s.CredentialsFile+" cannot be read", hint, cmp.Or(err, problem.PathCause(statErr)))
	case info.Mode().Perm()&0o077 != 0:
		return v, newError("other users can read its credentials in "+s.CredentialsFile, "chmod 600 "+problem.QuoteWord(s.CredentialsFile), nil)
	}
	profile := s.Profile
	if profile == "" {
		profile = "default"
	}
	found := readProfile(raw, profile)
	v.AccessKeyID, v.SecretAccessKey, v.SessionToken = found["aws_access_key_id"], found["aws_secret_access_key"], found["aws_session_token"]
	if v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return v, newError(s.CredentialsFile+" has no aws_access_key_id and aws_secret_access_key of the profile "+profile, hint, nil)
	}
	return v, nil
}

// readFile returns the content of a file with settings. The error does not name the file.
func readFile(path string) ([]byte, error) {
	f, err := host.OpenInput(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxSettingsFile+1))
	if err == nil && len(raw) > maxSettingsFile {
		err = fmt.Errorf("it has more than %d bytes", maxSettingsFile)
	}
	return raw, errors.Join(problem.PathCause(err), f.Close())
}

// readProfile returns the settings of one profile in a credentials file of AWS. Lines that it does not know are left out:
// such a file can name programs to run, which Plinth does not.
func readProfile(raw []byte, profile string) map[string]string {
	found, inside := map[string]string{}, false
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			inside = strings.TrimSpace(strings.Trim(line, "[]")) == profile
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && inside && !strings.HasPrefix(line, "#") {
			found[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return found
}

// Store is a bucket in a store.
type Store struct {
	client   *minio.Client
	where    Location // bucket
	host     string   // name of the store, for messages
	requests *watchedRequests
}

// Notify has note called once with a text for the user when the store lets a request wait.
func (s *Store) Notify(note func(text string)) { s.requests.note = note }

// Open returns the bucket. It does not contact the store.
func Open(bucket string, s Settings) (*Store, error) {
	endpoint := s.Endpoint
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return nil, newError("the endpoint is not an http:// or https:// URL with a host", "give --s3-endpoint https://HOST:PORT", nil)
	}
	creds, err := s.credentials()
	if err != nil {
		return nil, err
	}
	roots, err := s.authorities()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout,
		IdleConnTimeout: answerTimeout, MaxIdleConnsPerHost: 4, DisableCompression: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	watched := &watchedRequests{RoundTripper: transport, host: u.Host, slow: slowAfter, limit: answerTimeout}
	limited := limitedPages{watched, u.Host}
	client, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStatic(creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken, creds.SignerType),
		Secure: u.Scheme == "https", Region: s.region(), Transport: limited, MaxRetries: retries})
	if err != nil {
		return nil, newError(err.Error(), "check --s3-endpoint", err)
	}
	return &Store{client: client, where: Location{Bucket: bucket}, host: u.Host, requests: watched}, nil
}

// authorities returns the authorities that sign the certificate of the store; nil for those of the system.
func (s Settings) authorities() (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	raw, err := readFile(s.CAFile)
	roots := x509.NewCertPool()
	if err == nil && !roots.AppendCertsFromPEM(raw) {
		err = errors.New("it contains no certificate")
	}
	if err != nil {
		return nil, newError("its authority in "+s.CAFile+" cannot be read", "name a PEM file with --s3-ca-file or AWS_CA_BUNDLE", err)
	}
	return roots, nil
}

// partSize is the size of the parts in which an object of unknown size is sent, in bytes; one part is in memory. A store
// accepts 10000 parts.
const partSize = 16 << 20

// Write stores the content of r. The object appears when it is complete; one of that name is replaced. The parts of an
// object that a killed run has left are not visible, and are removed after a day.
func (s *Store) Write(ctx context.Context, key string, r io.Reader) error {
	s.removeIncomplete(ctx, key)
	_, err := s.client.PutObject(ctx, s.where.Bucket, key, r, -1, minio.PutObjectOptions{PartSize: partSize, ContentType: "application/octet-stream"})
	return s.explain(err)
}

// removeIncomplete removes parts of earlier objects beside key. That it fails is no reason not to write.
func (s *Store) removeIncomplete(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, 2*answerTimeout)
	defer cancel()
	dir := key[:strings.LastIndexByte(key, '/')+1]
	for u := range s.client.ListIncompleteUploads(ctx, s.where.Bucket, dir, false) {
		if u.Err == nil && time.Since(u.Initiated) > 24*time.Hour {
			_ = s.client.RemoveIncompleteUpload(ctx, s.where.Bucket, u.Key)
		}
	}
}

// Open opens an object for reading.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	o, err := s.client.GetObject(ctx, s.where.Bucket, key, minio.GetObjectOptions{})
	if err == nil {
		_, err = o.Stat() // the request is sent by the first use
	}
	if err != nil {
		return nil, s.explain(err)
	}
	return reader{o, s}, nil
}

// OpenStart opens the first n bytes of an object.
func (s *Store) OpenStart(ctx context.Context, key string, n int64) (io.ReadCloser, error) {
	var opts minio.GetObjectOptions
	if err := opts.SetRange(0, n-1); err != nil {
		return nil, err
	}
	o, err := s.client.GetObject(ctx, s.where.Bucket, key, opts)
	if err != nil {
		return nil, s.explain(err)
	}
	return reader{o, s}, nil
}

// reader is an object whose errors are explained.
type reader struct {
	*minio.Object
	store *Store
}

func (r reader) Read(p []byte) (int, error) {
	n, err := r.Object.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.store.explain(err)
	}
	return n, err
}

// Object is an object in a list.
type Object struct {
	Key  string
	Size int64 // bytes
}

// Limits of a list, so that a huge or malicious store cannot exhaust the memory.
const (
	maxObjects = 100_000
	maxNames   = 16 << 20 // of all names, in bytes
)

// List returns the objects whose keys begin with prefix, which is "" or ends with a slash, sorted by key. Those below
// further slashes are included only if it is recursive; otherwise the names up to a slash count as objects, too.
func (s *Store) List(ctx context.Context, prefix string, recursive bool) (all []Object, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the goroutine of the client
	objects, names := 0, 0
	for o := range s.client.ListObjects(ctx, s.where.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: recursive}) {
		if o.Err != nil {
			return nil, s.explain(o.Err)
		}
		objects, names = objects+1, names+len(o.Key)
		switch where := (Location{s.where.Bucket, strings.TrimSuffix(prefix, "/")}); {
		case objects > maxObjects:
			return nil, newError(fmt.Sprintf("the object store %s has more than %d objects below %s", s.host, maxObjects, where), listHint, nil)
		case names > maxNames:
			return nil, newError(fmt.Sprintf("the object store %s has objects below %s whose names have more than %d bytes", s.host, where, maxNames), listHint, nil)
		}
		if !strings.HasSuffix(o.Key, "/") {
			all = append(all, Object{o.Key, o.Size})
		}
	}
	return all, nil
}

// Remove removes an object. A missing one is not an error.
func (s *Store) Remove(ctx context.Context, key string) error {
	return s.explain(s.client.RemoveObject(ctx, s.where.Bucket, key, minio.RemoveObjectOptions{}))
}
