package k0s

import (
	"bytes"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestEnsureEncryptionKeys_CreatesOneKeyForEachClusterAndKeepsIt(t *testing.T) {
	var secrets [][]byte
	for range 2 {
		h := hosttest.New(t).Host()
		if why, err := EncryptionKeysNeeded(h); why == "" || err != nil {
			t.Fatalf("%q %v", why, err)
		}
		testkit.Must(t, EnsureEncryptionKeys(h))
		first, err := ReadEncryptionKeys(h)
		testkit.Must(t, err)
		testkit.Must(t, EnsureEncryptionKeys(h))
		again, err := ReadEncryptionKeys(h)
		testkit.Must(t, err)
		if len(first) != 1 || len(first[0].Secret) != 32 || !bytes.Equal(first[0].Secret, again[0].Secret) {
			t.Errorf("%d keys, then %d", len(first), len(again))
		}
		if info, err := h.Lstat(EncryptionConfPath); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
		secrets = append(secrets, first[0].Secret)
	}
	if bytes.Equal(secrets[0], secrets[1]) {
		t.Error("two clusters have the same key")
	}
}

func TestWriteEncryptionKeys_IdentityIsLast(t *testing.T) {
	h := hosttest.New(t).Host()
	keys := []EncryptionKey{{"key2", bytes.Repeat([]byte{2}, 32)}, {"key1", bytes.Repeat([]byte{1}, 32)}}
	testkit.Must(t, WriteEncryptionKeys(h, keys))
	raw, err := h.ReadFile(EncryptionConfPath)
	testkit.Must(t, err)
	testkit.Golden(t, "testdata/encryption.golden.yaml", raw)
	got, err := ReadEncryptionKeys(h)
	if err != nil || len(got) != 2 || got[0].Name != "key2" {
		t.Errorf("%v %v", got, err)
	}
}

func TestReadEncryptionKeys_RefusesWhatPlinthDoesNotWrite(t *testing.T) {
	h := hosttest.New(t).Host()
	testkit.Must(t, EnsureEncryptionKeys(h))
	raw, err := h.ReadFile(EncryptionConfPath)
	testkit.Must(t, err)
	good := string(raw)
	for name, text := range map[string]string{
		"empty":           "",
		"other resources": strings.Replace(good, "- secrets", "- configmaps", 1),
		"more resources":  strings.Replace(good, "- secrets", "- secrets\n  - configmaps", 1),
		"no identity":     strings.Replace(good, "  - identity: {}\n", "", 1),
		"other provider":  strings.Replace(good, "secretbox:", "aescbc:", 1),
		"short key":       strings.Replace(good, "secret: ", "secret: AAAA #", 1),
		"not base64":      strings.Replace(good, "secret: ", "secret: \"!\" #", 1),
		"bad name":        strings.Replace(good, "name: key1", "name: Key_1", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if text == good {
				t.Fatal("the test changes nothing:\n" + good)
			}
			testkit.Must(t, h.Write(EncryptionConfPath, strings.NewReader(text), 0o600))
			if keys, err := ReadEncryptionKeys(h); err == nil || strings.Contains(err.Error(), "AAAA") {
				t.Errorf("%v %v", keys, err)
			}
			if err := EnsureEncryptionKeys(h); err == nil {
				t.Error("damaged keys were replaced")
			}
		})
	}
}

func TestWriteEncryptionKeys_RefusesBadKeys(t *testing.T) {
	key := func(name string) EncryptionKey { return EncryptionKey{name, make([]byte, 32)} }
	for name, keys := range map[string][]EncryptionKey{
		"none":     nil,
		"repeated": {key("a"), key("a")},
		"name":     {key("a\n- b")},
		"size":     {{"a", make([]byte, 16)}},
		"many":     {key("a"), key("b"), key("c"), key("d"), key("e"), key("f"), key("g"), key("h"), key("i")},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			if err := WriteEncryptionKeys(h, keys); err == nil {
				t.Error("they were written")
			}
			if _, err := h.Lstat(EncryptionConfPath); err == nil {
				t.Error("the file exists")
			}
		})
	}
}
