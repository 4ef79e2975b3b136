package etcd

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// RevisionBump is how much BumpRevision adds. It has to exceed what was written since the snapshot; etcd's
// documentation advises a billion ("Disaster recovery").
const RevisionBump = 1_000_000_000

// revisionSize is the size of a revision in the database: main, '_', sub (etcd server/storage/mvcc, NewRevBytes).
const revisionSize = 17

// BumpRevision raises the revision of the database in the file path by RevisionBump, and marks everything
// before it as compacted, as `etcdutl snapshot restore --bump-revision --mark-compacted` does. Clients that
// have seen a later state than that of the database then list all objects again: without it, their watches
// would wait silently for a revision that they already know. The file must be a database without the hash
// of a snapshot, and not in use.
func BumpRevision(path string) (err error) {
	defer recoverDamage(debug.SetPanicOnFault(true), &err)
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 10 * time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("cannot open the database of etcd: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Update(func(tx *bolt.Tx) error {
		keys, meta := tx.Bucket([]byte("key")), tx.Bucket([]byte("meta"))
		if keys == nil || meta == nil {
			return errors.New("it is not a database of etcd")
		}
		last, _ := keys.Cursor().Last() // revisions are sorted
		if len(last) < revisionSize {
			return errors.New("the database of etcd is empty")
		}
		next := make([]byte, revisionSize)
		binary.BigEndian.PutUint64(next, binary.BigEndian.Uint64(last)+RevisionBump)
		next[8] = '_'
		return errors.Join(keys.Put(next, nil), meta.Put([]byte("scheduledCompactRev"), next))
	})
}

// recoverDamage sets err after a panic: bbolt reads a file in memory and trusts its pages, so that a damaged one can
// also be a fault of the memory. before is the setting of debug.SetPanicOnFault to restore.
func recoverDamage(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if r := recover(); r != nil {
		*err = fmt.Errorf("the database of etcd is damaged: %v", r)
	}
}

// HashSize is the size of the hash at the end of a snapshot, which a database does not have.
const HashSize = sha256.Size

// AppendHash returns a reader of a snapshot with the database r: the database, and its SHA-256.
func AppendHash(r io.Reader) io.Reader {
	h := &hashReader{r: r, sum: sha256.New()}
	return io.MultiReader(h, h.trailer())
}

type hashReader struct {
	r   io.Reader
	sum hash.Hash
}

func (h *hashReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.sum.Write(p[:n])
	return n, err
}

// trailer returns a reader of the hash of what was read until its first call.
func (h *hashReader) trailer() io.Reader {
	var rest []byte
	return readerFunc(func(p []byte) (int, error) {
		if rest == nil {
			rest = h.sum.Sum(nil)
		}
		if len(rest) == 0 {
			return 0, io.EOF
		}
		n := copy(p, rest)
		rest = rest[n:]
		return n, nil
	})
}

// readerFunc is a function that is an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// StoredMembers returns the members in the database of a stopped etcd, in the file path. A running etcd locks
// its database: that is an error after a second.
func StoredMembers(path string) (members []Member, err error) {
	defer recoverDamage(debug.SetPanicOnFault(true), &err)
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("cannot open the database of etcd: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bolt.Tx) error {
		bucket := tx.Bucket([]byte("members")) // by the member's id in hex (etcd server/storage/schema/membership.go)
		if bucket == nil {
			return errors.New("the database of etcd has no members")
		}
		return bucket.ForEach(func(id, value []byte) error {
			var m struct {
				Name      string   `json:"name"`
				PeerURLs  []string `json:"peerURLs"`
				IsLearner bool     `json:"isLearner"`
			}
			if err := json.Unmarshal(value, &m); err != nil {
				return fmt.Errorf("member %s: %w", id, err)
			}
			members = append(members, Member{ID: string(id), Name: m.Name, Address: peerHost(m.PeerURLs), Learner: m.IsLearner})
			return nil
		})
	})
	return members, err
}
