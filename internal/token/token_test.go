package token

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func example() Token {
	return Token{Cluster: "my-app", Addresses: []string{"10.0.0.1:9444", "10.0.0.2:9444"}, Pin: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		Role: Worker, ID: "abcdefgh", Secret: "s3cr3ts3cr3t", Expires: time.Unix(1800000000, 0).UTC(),
		Bundle: "sha256:b", Agreement: "sha256:c"}
}

func encode(t testing.TB, tok Token) string {
	t.Helper()
	text, err := tok.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestATokenIsOneWordAndReadsBackAsItWas(t *testing.T) {
	text := encode(t, example())
	if strings.ContainsAny(text, " \n\t'\"$`\\!") {
		t.Errorf("not safe to paste: %s", text)
	}
	got, err := Decode("\n  " + text + " \n")
	if err != nil || !reflect.DeepEqual(got, example()) {
		t.Errorf("%v %v", got.Addresses, err)
	}
}

func TestOneChangedCharacterIsNoticedWhereverItIs(t *testing.T) {
	text := encode(t, example())
	for i := range text {
		for _, c := range []byte{'A', 'z', '0', '-', '_'} {
			if text[i] == c {
				continue
			}
			changed := text[:i] + string(c) + text[i+1:]
			if _, err := Decode(changed); err == nil {
				t.Fatalf("character %d changed from %c to %c: accepted", i, text[i], c)
			} else if strings.Contains(err.Error(), example().Secret) || len(err.Error()) > 200 {
				t.Fatalf("the error shows the token: %v", err)
			}
		}
	}
}

func TestATokenThatWasCutShortSaysSo(t *testing.T) {
	text := encode(t, example())
	for i := 1; i < len(text); i++ {
		if _, err := Decode(text[:i]); err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Fatalf("%d of %d characters: %v", i, len(text), err)
		}
	}
}

func TestWhatIsNoTokenIsRefusedInWords(t *testing.T) {
	short := example()
	short.Pin = "QQ=="
	role := example()
	role.Role = "etcd"
	bare := example()
	bare.Addresses = nil
	for text, want := range map[string]string{
		"": "empty", "K10abc::server:x": "no join token", strings.Repeat("x", 9000): "9000 characters",
		encode(t, example()) + "x": "changed", encode(t, short): "no pin", encode(t, role): `"etcd"`, encode(t, bare): "lacks an address",
	} {
		if _, err := Decode(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s…: %v, want %s", text, err, want)
		}
	}
}

func TestATokenNeverPrintsItsSecret(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, example()); strings.Contains(got, "s3cr3t") || !strings.Contains(got, "abcdefgh") {
			t.Errorf("%s: %s", format, got)
		}
	}
}

func TestOnlyTheSecretMatchesItsHash(t *testing.T) {
	id, secret := NewSecret()
	other, wrong := NewSecret()
	if id == other || len(secret) < 32 || !Matches(secret, Hash(secret)) || Matches(wrong, Hash(secret)) || Matches("", Hash(secret)) {
		t.Errorf("%s %s", id, other)
	}
	if gotID, gotSecret, ok := SplitBearer(Token{ID: id, Secret: secret}.Bearer()); gotID != id || gotSecret != secret || !ok {
		t.Errorf("%s %v", gotID, ok)
	}
	if _, _, ok := SplitBearer("abc"); ok {
		t.Error("a bearer without a secret")
	}
}

func FuzzDecode(f *testing.F) {
	text := encode(f, example())
	for _, seed := range []string{text, text[:len(text)/2], "", "plinth1-", "plinth1-0-aaaaaaaaaaaa-", "plinth1--1-x-y", "other"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := Decode(s)
		if err != nil {
			return
		}
		again, err := Decode(encode(t, tok))
		if err != nil || !reflect.DeepEqual(again, tok) {
			t.Errorf("%v %v", again, err)
		}
	})
}
