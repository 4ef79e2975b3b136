package objectstore

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"

	"github.com/plinthdev/plinth/internal/problem"
)

// storeError is why a store cannot be used, and what to do.
type storeError struct {
	cause, hint string
	err         error // nil for none
}

// Error returns the cause.
func (e *storeError) Error() string { return e.cause }

// Hint returns what to do.
func (e *storeError) Hint() string { return e.hint }

// Unwrap returns the error that was explained.
func (e *storeError) Unwrap() error { return e.err }

// IsFailure reports whether err is, or was caused by, a store that cannot be used.
func IsFailure(err error) bool {
	var failure *storeError
	return errors.As(err, &failure)
}

// newError returns an error with a cause and what to do. err is nil, or what the cause explains.
func newError(cause, hint string, err error) error {
	if err != nil && cause != err.Error() {
		cause += ": " + err.Error()
	}
	return &storeError{cause, hint, err}
}

// reasons are the causes of the codes with which a store refuses a request. AWS, MinIO and versitygw write different ones
// for a store that is full, and versitygw its own for an access key that it does not know.
var reasons = map[string]struct{ cause, hint string }{
	"InvalidAccessKeyId":             {"it does not know the access key", credentialsHint},
	"XAdminUserNotFound":             {"it does not know the access key", credentialsHint},
	"SignatureDoesNotMatch":          {"the secret key is wrong", credentialsHint},
	"ExpiredToken":                   {"the session token has expired", credentialsHint},
	"InvalidToken":                   {"the session token is not valid", credentialsHint},
	"AccessDenied":                   {"the credentials do not allow it", "allow them to list, read, write and delete objects below the prefix"},
	"NoSuchBucket":                   {"it has no such bucket", "create the bucket first"},
	"NoSuchKey":                      {"it has no such object", "list what is there: plinth backup list s3://BUCKET/PREFIX"},
	"RequestTimeTooSkewed":           {"the clock of this host and that of the store differ", "synchronize the clock: timedatectl"},
	"AuthorizationHeaderMalformed":   {"the bucket is in another region", regionHint},
	"PermanentRedirect":              {"the bucket is in another region", regionHint},
	"QuotaExceeded":                  {"it is full", fullHint},
	"InsufficientStorage":            {"it is full", fullHint},
	"XMinioStorageFull":              {"it is full", fullHint},
	"XMinioAdminBucketQuotaExceeded": {"it is full", fullHint},
	"InternalError":                  {"it reports an internal error", "check the free space of its disk, and its log"}, // versitygw 1.8.0 whose disk is full
}

const (
	credentialsHint = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the file of --s3-credentials-file"
	regionHint      = "name its region with --s3-region or AWS_REGION"
	fullHint        = "remove old objects, raise the quota, or lower --keep"
	listHint        = "give a prefix with fewer objects, such as one of its own for backups, or remove old objects"
	caHint          = "name the PEM file of its authority with --s3-ca-file or AWS_CA_BUNDLE"
)

// explain returns an error of the client in words, with what to do; nil for nil.
func (s *Store) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var explained *storeError
	if errors.As(err, &explained) {
		return explained
	}
	name := "the object store " + s.host
	var unknown x509.UnknownAuthorityError
	var otherName x509.HostnameError
	var invalid x509.CertificateInvalidError
	var refused minio.ErrorResponse
	switch {
	case errors.As(err, &unknown):
		return &storeError{name + " has a certificate of an authority that this host does not know", caHint, err}
	case errors.As(err, &otherName):
		return newError(name+" has a certificate for another name", "check --s3-endpoint", err)
	case errors.As(err, &invalid):
		return newError(name+" has a certificate that is not valid", "check the clocks and the certificate of the store", err)
	case errors.As(err, &refused):
		r, ok := reasons[refused.Code]
		if refused.StatusCode == http.StatusInsufficientStorage {
			r, ok = reasons["InsufficientStorage"], true
		}
		if !ok {
			return newError(name+" refuses the request ("+refused.Code+")", "see the log of the store", err)
		}
		if refused.Code == "NoSuchKey" {
			err = errors.Join(err, fs.ErrNotExist)
		}
		return &storeError{name + ": " + r.cause + " (" + refused.Code + ")", r.hint, err}
	}
	var silent silentError
	if errors.As(err, &silent) {
		return &storeError{name + " cannot be reached: " + silent.Error(), "check that the store works, and see its log; then run the command again", err}
	}
	var request *url.Error
	var network net.Error
	if errors.As(err, &request) || errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) {
		return &storeError{name + " cannot be reached: " + problem.ExplainConnection(err), "check --s3-endpoint, or AWS_ENDPOINT_URL, and the network", err}
	}
	return newError(name+" cannot be used", "check --s3-endpoint", err)
}
