package supportbundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/plinthdev/plinth/internal/testkit"
)

var at = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// unpack returns the files of a bundle by their names below root.
func unpack(t *testing.T, r io.Reader, root string) map[string]string {
	t.Helper()
	unzipped, err := gzip.NewReader(r)
	testkit.Must(t, err)
	files := map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		testkit.Must(t, err)
		name, ok := strings.CutPrefix(h.Name, root+"/")
		if !ok || h.Typeflag != tar.TypeReg || h.Mode != 0o600 {
			t.Errorf("%+v", h)
		}
		content, err := io.ReadAll(archive)
		testkit.Must(t, err)
		files[name] = string(content)
	}
}

func newWriter(t *testing.T, w io.Writer, limit int64, recipients ...age.Recipient) *Writer {
	t.Helper()
	b, err := NewWriter(w, Options{Root: "support-bundle-1", Time: at, Limit: limit, Redactor: NewRedactor("kn0wnSecretValue"), Recipients: recipients})
	testkit.Must(t, err)
	return b
}

func TestWriter_WritesTheLayoutOfTroubleshoot(t *testing.T) {
	var out bytes.Buffer
	b := newWriter(t, &out, 1e6)
	b.Add("host-collectors/run-host/a.txt", []byte("one\npassword: hunter kn0wnSecretValue\nkn0wnSecretValue\n"))
	b.Add("cluster-resources/nodes.json", []byte(`{"items":[]}`))
	b.LeaveOut("cluster-resources/pods", "no answer from kn0wnSecretValue")
	summary, err := b.Close()
	testkit.Must(t, err)
	files := unpack(t, &out, "support-bundle-1")
	if files[versionFile] != "apiVersion: troubleshoot.sh/v1beta2\nkind: SupportBundle\nspec:\n  versionNumber: v0.133.0\n" || files["cluster-resources/nodes.json"] == "" {
		t.Errorf("%q", files)
	}
	var manifest []Redaction
	testkit.Must(t, json.Unmarshal([]byte(files[manifestFile]), &manifest))
	want := []Redaction{{"host-collectors/run-host/a.txt", ruleKnown, 2, []int{2, 3}}, {"host-collectors/run-host/a.txt", ruleValue, 1, []int{2}}}
	if !slices.EqualFunc(manifest, want, func(a, b Redaction) bool {
		return a.File == b.File && a.Rule == b.Rule && a.Count == b.Count && slices.Equal(a.Lines, b.Lines)
	}) {
		t.Errorf("%+v", manifest)
	}
	for name, content := range files {
		if strings.Contains(content, "kn0wnSecretValue") || strings.Contains(content, "hunter") {
			t.Errorf("%s: %s", name, content)
		}
	}
	if summary.Files != 3 || summary.Redacted != 3 || len(summary.LeftOut) != 1 {
		t.Errorf("%+v", summary)
	}
}

func TestWriter_KeepsTheEndOfLogsThatDoNotFit(t *testing.T) {
	var out bytes.Buffer
	b := newWriter(t, &out, 10_000)
	b.Add("a.log", []byte(strings.Repeat("0123456789\n", 2000)+"last\n"))
	b.Add("b.log", []byte("more\n"))
	b.Add("c.json", []byte(`{"a":"`+strings.Repeat("b", 9000)+`"}`))
	summary, err := b.Close()
	testkit.Must(t, err)
	files := unpack(t, &out, "support-bundle-1")
	if a := files["a.log"]; len(a) > 10_000 || !strings.HasPrefix(a, "0123456789\n") || !strings.HasSuffix(a, "last\n") {
		t.Errorf("%d bytes", len(a))
	}
	if _, ok := files["c.json"]; ok || len(summary.LeftOut) < 2 || !strings.Contains(files[leftOutFile], "c.json") {
		t.Errorf("%+v", summary)
	}
}

func TestWriter_LeavesOutWhatIsNotText(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte("password: hunter22\n"))
	testkit.Must(t, err, z.Close())
	utf16 := func(text string) (wide string) {
		for _, c := range text {
			wide += string([]byte{byte(c), 0})
		}
		return wide
	}
	const so = ": secrets in it cannot be found"
	for name, c := range map[string]struct{ content, want string }{
		"gzip":                {zipped.String(), "it is compressed (gzip)" + so},
		"the end of gzip":     {zipped.String()[4:], "it is not text" + so},
		"xz":                  {"\xfd7zXZ\x00\x00", "it is compressed (xz)" + so},
		"zip":                 {"PK\x03\x04a", "it is compressed (zip)" + so},
		"UTF-16":              {"\xff\xfe" + utf16("password: hunter22"), "it is text in UTF-16" + so},
		"UTF-16 without mark": {utf16("password: hunter22"), "it is not text" + so},
		"a program":           {"\x7fELF\x02\x01\x01\x00", "it is not text" + so},
		"text":                {"password: none", ""},
		"Latin-1":             {"gr\xfc\xdfe", ""},
		"UTF-8 with mark":     {"\xef\xbb\xbfa", ""},
		"nothing":             {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			b := newWriter(t, &out, 1e6)
			b.Add("host-collectors/a.bin", []byte(c.content))
			summary, err := b.Close()
			testkit.Must(t, err)
			found, has := unpack(t, &out, "support-bundle-1")["host-collectors/a.bin"]
			if c.want == "" {
				if !has || found != c.content || len(summary.LeftOut) != 0 {
					t.Errorf("%q, %+v", found, summary)
				}
				return
			}
			if has || !slices.Equal(summary.LeftOut, []LeftOut{{File: "host-collectors/a.bin", Reason: c.want}}) {
				t.Errorf("%q, %+v", found, summary)
			}
		})
	}
}

// The binary data of a ConfigMap is base64 of what is not text. What reads the object must still be able to decode it.
func TestWriter_MasksBinaryData(t *testing.T) {
	var out bytes.Buffer
	b := newWriter(t, &out, 1e6)
	b.Add("configmaps/a.json", []byte(`{"kind":"ConfigMap","binaryData":{"a.gz":"H4sIAAAA"},"data":{"b":"c"}}`))
	summary, err := b.Close()
	testkit.Must(t, err)
	files := unpack(t, &out, "support-bundle-1")
	var object struct{ BinaryData map[string][]byte }
	testkit.Must(t, json.Unmarshal([]byte(files["configmaps/a.json"]), &object))
	if got := string(object.BinaryData["a.gz"]); got != "***REDACTED:binary-data***" || summary.Redacted != 1 || !strings.Contains(files[manifestFile], `"binary-data"`) {
		t.Errorf("%q, %+v, %s", got, summary, files[manifestFile])
	}
	if got := string(NewRedactor().Redact("a.yaml", []byte("kind: ConfigMap\nbinaryData:\n  a.gz: H4sIAAAAAAAA\n"))); got != "kind: ConfigMap\nbinaryData:\n  a.gz: ***REDACTED:kubernetes-secret***\n" {
		t.Errorf("%q", got)
	}
}

func TestWriter_RefusesNamesTwice(t *testing.T) {
	b := newWriter(t, io.Discard, 1e6)
	b.Add("a", nil)
	b.Add("/a", nil)
	if _, err := b.Close(); err == nil {
		t.Error("no error")
	}
}

func TestWriter_EncryptsForRecipients(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	var out bytes.Buffer
	b := newWriter(t, &out, 1e6, identity.Recipient())
	b.Add("a.txt", []byte("found it"))
	_, err = b.Close()
	testkit.Must(t, err)
	if bytes.Contains(out.Bytes(), []byte("found")) {
		t.Error("not encrypted")
	}
	plain, err := age.Decrypt(&out, identity)
	testkit.Must(t, err)
	if files := unpack(t, plain, "support-bundle-1"); files["a.txt"] != "found it" {
		t.Errorf("%q", files)
	}
}
