package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"
)

// SecretNamespace is the namespace of the records: only cluster administrators
// may read its secrets.
const SecretNamespace = "kube-system"

// tokenLabel marks the secrets that are records.
const tokenLabel = "plinth.dev/join-token"

// retention is how long a record is kept after its token has expired, so that a
// client that comes too late gets the reason.
const retention = 24 * time.Hour

// Store is the records of one cluster.
type Store struct {
	Core corev1client.CoreV1Interface
	Now  func() time.Time
}

func (b Store) secretClient() corev1client.SecretInterface { return b.Core.Secrets(SecretNamespace) }

// secretName returns the name of the secret for the token with this ID.
func secretName(id string) string { return "plinth-join-" + id }

// Add stores a new record, and deletes the records that expired more than
// retention ago.
func (b Store) Add(ctx context.Context, r Record) error {
	old, err := b.List(ctx)
	if err != nil {
		return err
	}
	for _, o := range old {
		if o.Expires.Add(retention).Before(b.Now()) {
			if err := b.secretClient().Delete(ctx, secretName(o.ID), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	s, err := toSecret(r)
	if err != nil {
		return err
	}
	_, err = b.secretClient().Create(ctx, s, metav1.CreateOptions{FieldManager: "plinth"})
	return err
}

// List returns all records, newest first.
func (b Store) List(ctx context.Context) ([]Record, error) {
	list, err := b.secretClient().List(ctx, metav1.ListOptions{LabelSelector: tokenLabel + "=true"})
	if err != nil {
		return nil, err
	}
	records := make([]Record, 0, len(list.Items))
	for i := range list.Items {
		r, err := fromSecret(&list.Items[i])
		if err != nil {
			return nil, err
		}
		r.State = r.stateAt(b.Now())
		records = append(records, r)
	}
	slices.SortFunc(records, func(x, y Record) int { return y.Created.Compare(x.Created) })
	return records, nil
}

// Find returns the record of a token by its ID, or ErrNotFound.
func (b Store) Find(ctx context.Context, id string) (Record, error) {
	s, err := b.secretClient().Get(ctx, secretName(id), metav1.GetOptions{})
	if id == "" || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return Record{}, ErrNotFound
	}
	if err != nil {
		return Record{}, err
	}
	return fromSecret(s)
}

// Check verifies bearer, as returned by Token.Bearer, for the host that has
// shown this key, and returns its record. If the token is not accepted, the error
// is a *RejectedError.
func (b Store) Check(ctx context.Context, bearer, key string) (Record, error) {
	r, secret, err := b.findRecord(ctx, bearer)
	if err != nil {
		return Record{}, err
	}
	return r, r.Check(secret, key, b.Now())
}

// CheckReadAccess verifies that bearer, as returned by Token.Bearer or
// Token.ReadOnlyBearer, may read the blobs of the cluster. If not, the error is
// a *RejectedError.
func (b Store) CheckReadAccess(ctx context.Context, bearer, key string) error {
	r, shown, err := b.findRecord(ctx, bearer)
	if err != nil {
		return err
	}
	return r.CheckReadAccess(shown, key, b.Now())
}

// findRecord returns the record that bearer names, and the secret or hash in
// bearer.
func (b Store) findRecord(ctx context.Context, bearer string) (r Record, shown string, err error) {
	id, shown, ok := SplitBearer(bearer)
	if !ok {
		return r, "", &RejectedError{"the request has no token"}
	}
	s, err := b.secretClient().Get(ctx, secretName(id), metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return r, "", &RejectedError{unknownToken}
	}
	if err == nil {
		r, err = fromSecret(s)
	}
	return r, shown, err
}

// Use checks the token and records that a host joins with it. A host is
// recorded once, even if several controllers receive its request at the same
// time.
func (b Store) Use(ctx context.Context, bearer string, u Use) (Record, error) {
	r, err := b.Check(ctx, bearer, u.Key)
	if err != nil {
		return r, err
	}
	_, secret, _ := SplitBearer(bearer)
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		return b.updateRecord(ctx, r.ID, func(now *Record) error {
			// Check again on the record that will be written: another host may have been faster.
			err := now.Check(secret, u.Key, b.Now())
			if err == nil {
				now.addUse(u)
			}
			r = *now
			return err
		})
	})
	return r, err
}

// EndUses ends the uses of all tokens by the host with this key, so that the host cannot join again
// with any of them.
func (b Store) EndUses(ctx context.Context, key string) error {
	all, err := b.List(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.indexOfUse(key) < 0 {
			continue
		}
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			return b.updateRecord(ctx, r.ID, func(now *Record) error {
				if i := now.indexOfUse(key); i >= 0 {
					now.UsedBy[i].Ended = true
				}
				return nil
			})
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// ErrNotFound is returned for an ID that no token has.
var ErrNotFound = errors.New("no token has this ID")

// Revoke ends a token at once. Revoking a revoked token changes nothing; the error is
// ErrNotFound if there is no such token.
func (b Store) Revoke(ctx context.Context, id string) (Record, error) {
	var r Record
	if _, _, ok := SplitBearer(id + ".x"); !ok {
		return r, ErrNotFound
	}
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		return b.updateRecord(ctx, id, func(rec *Record) error {
			if now := b.Now().UTC(); rec.Revoked == nil {
				rec.Revoked = &now
			}
			r = *rec
			r.State = Revoked
			return nil
		})
	})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return r, ErrNotFound
	}
	return r, err
}

// updateRecord reads, changes and writes a record; if another client changed it
// at the same time, the error is the API's conflict error.
func (b Store) updateRecord(ctx context.Context, id string, fn func(*Record) error) error {
	s, err := b.secretClient().Get(ctx, secretName(id), metav1.GetOptions{})
	if err != nil {
		return err
	}
	r, err := fromSecret(s)
	if err != nil {
		return err
	}
	if err := fn(&r); err != nil {
		return err
	}
	next, err := toSecret(r)
	if err != nil {
		return err
	}
	s.Data = next.Data // keeps the resource version that was read
	_, err = b.secretClient().Update(ctx, s, metav1.UpdateOptions{FieldManager: "plinth"})
	return err
}

func toSecret(r Record) (*corev1.Secret, error) {
	used, err := json.Marshal(r.UsedBy)
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{
		"role": []byte(r.Role), "hash": []byte(r.Hash), "uses": []byte(strconv.Itoa(r.Uses)), "used": used,
		"created": []byte(r.Created.UTC().Format(time.RFC3339)), "expires": []byte(r.Expires.UTC().Format(time.RFC3339)),
	}
	if r.Revoked != nil {
		data["revoked"] = []byte(r.Revoked.UTC().Format(time.RFC3339))
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secretName(r.ID), Namespace: SecretNamespace, Labels: map[string]string{tokenLabel: "true"}},
		Type: "plinth.dev/join-token", Data: data}, nil
}

func fromSecret(s *corev1.Secret) (r Record, err error) {
	r = Record{ID: s.Name[len(secretName("")):], Role: string(s.Data["role"]), Hash: string(s.Data["hash"])}
	var errs [5]error
	r.Uses, errs[0] = strconv.Atoi(string(s.Data["uses"]))
	r.Created, errs[1] = time.Parse(time.RFC3339, string(s.Data["created"]))
	r.Expires, errs[2] = time.Parse(time.RFC3339, string(s.Data["expires"]))
	errs[3] = json.Unmarshal(s.Data["used"], &r.UsedBy)
	if at := string(s.Data["revoked"]); at != "" {
		var revoked time.Time
		revoked, errs[4] = time.Parse(time.RFC3339, at)
		r.Revoked = &revoked
	}
	r.UsesLeft = max(0, r.Uses-len(r.UsedBy))
	if err := errors.Join(errs[:]...); err != nil {
		return r, fmt.Errorf("cannot decode the record of token %s: %w", r.ID, err)
	}
	return r, nil
}
