package token

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/testkit"
)

func exampleToken() Token {
	return Token{Cluster: "my-app", Addresses: []string{"10.0.0.1:9444", "10.0.0.2:9444"}, Pin: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		Role: Worker, ID: "abcdefgh", Secret: "s3cr3ts3cr3t", Expires: time.Unix(1800000000, 0).UTC(),
		Bundle: "sha256:b", SharedConfig: "sha256:c", VendorKey: "sha256:k"}
}

func encodeToken(t testing.TB, tok Token) string {
	t.Helper()
	text, err := tok.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEncode_ReturnsOneWordThatDecodes(t *testing.T) {
	text := encodeToken(t, exampleToken())
	if strings.ContainsAny(text, " \n\t'\"$`\\!") {
		t.Errorf("not safe to paste: %s", text)
	}
	got, err := Decode("\n  " + text + " \n")
	if err != nil || !reflect.DeepEqual(got, exampleToken()) {
		t.Errorf("%v %v", got.Addresses, err)
	}
}

func TestDecode_DetectsChangedCharacter(t *testing.T) {
	text := encodeToken(t, exampleToken())
	for i := range text {
		for _, c := range []byte{'A', 'z', '0', '-', '_'} {
			if text[i] == c {
				continue
			}
			changed := text[:i] + string(c) + text[i+1:]
			if _, err := Decode(changed); err == nil {
				t.Fatalf("character %d changed from %c to %c: accepted", i, text[i], c)
			} else if strings.Contains(err.Error(), exampleToken().Secret) || len(err.Error()) > 200 {
				t.Fatalf("the error contains the token: %v", err)
			}
		}
	}
}

func TestDecode_ReportsTruncatedToken(t *testing.T) {
	text := encodeToken(t, exampleToken())
	for i := 1; i < len(text); i++ {
		if _, err := Decode(text[:i]); err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Fatalf("%d of %d characters: %v", i, len(text), err)
		}
	}
}

func TestDecode_RefusesInvalidToken(t *testing.T) {
	short := exampleToken()
	short.Pin = "QQ=="
	role := exampleToken()
	role.Role = "etcd"
	bare := exampleToken()
	bare.Addresses = nil
	unbound, open := exampleToken(), exampleToken()
	unbound.Bundle, open.SharedConfig = "", ""
	for name, c := range map[string]struct{ text, want string }{
		"empty":              {"", "empty"},
		"token of K3s":       {"K10abc::server:x", "not a join token"},
		"too long":           {strings.Repeat("x", 9000), "9000 characters"},
		"character added":    {encodeToken(t, exampleToken()) + "x", "changed"},
		"pin of one byte":    {encodeToken(t, short), "no pin"},
		"unknown role":       {encodeToken(t, role), `"etcd"`},
		"without an address": {encodeToken(t, bare), "no address"},
		"without a bundle":   {encodeToken(t, unbound), "no digest of the bundle"},
		"without a config":   {encodeToken(t, open), "or of the configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%.20s…: %v, want %s", c.text, err, c.want)
			}
		})
	}
}

func TestToken_NeverPrintsSecret(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		t.Run(format, func(t *testing.T) {
			if got := fmt.Sprintf(format, exampleToken()); strings.Contains(got, "s3cr3t") || !strings.Contains(got, "abcdefgh") {
				t.Errorf("%s: %s", format, got)
			}
		})
	}
}

func TestMatchesHash_AcceptsTheSecretOnly(t *testing.T) {
	id, secret := NewSecret()
	other, wrong := NewSecret()
	if id == other || len(secret) < 32 || !MatchesHash(secret, HashSecret(secret)) || MatchesHash(wrong, HashSecret(secret)) || MatchesHash("", HashSecret(secret)) {
		t.Errorf("%s %s", id, other)
	}
	if gotID, gotSecret, ok := SplitBearer(Token{ID: id, Secret: secret}.Bearer()); gotID != id || gotSecret != secret || !ok {
		t.Errorf("%s %v", gotID, ok)
	}
	if _, _, ok := SplitBearer("abc"); ok {
		t.Error("a bearer without a secret")
	}
}

func TestDecode_BoundsWork(t *testing.T) {
	text := encodeToken(t, exampleToken())
	for name, large := range map[string]string{
		"no token":            strings.Repeat("a", testkit.MaxInput),
		"nothing but dashes":  "plinth1-" + strings.Repeat("-", testkit.MaxInput-8),
		"more after a token":  text + strings.Repeat("A", testkit.MaxInput-len(text)),
		"token after a token": strings.Repeat(text, testkit.MaxInput/len(text)),
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckBounds(t, func() {
				if _, err := Decode(large); err == nil {
					t.Error("it is taken for a token")
				}
			})
		})
	}
}

func FuzzDecode(f *testing.F) {
	text := encodeToken(f, exampleToken())
	for _, seed := range []string{text, text[:len(text)/2], "", "plinth1-", "plinth1-0-aaaaaaaaaaaa-", "plinth1--1-x-y", "other"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := Decode(s)
		if err != nil {
			return
		}
		again, err := Decode(encodeToken(t, tok))
		if err != nil || !reflect.DeepEqual(again, tok) {
			t.Errorf("%v %v", again, err)
		}
	})
}
