package resolvconf

import (
	"reflect"
	"testing"
)

func TestForPods_ReturnsServersThatWorkInPods(t *testing.T) {
	type files map[string]string
	const networkManager = "/run/NetworkManager/no-stub-resolv.conf"
	for name, tc := range map[string]struct {
		files  files
		from   string
		direct bool
		want   []string
	}{
		"a server of the network":                {files{HostFile: "nameserver 192.0.2.1\n"}, HostFile, true, []string{"192.0.2.1"}},
		"resolved with a server":                 {files{HostFile: "nameserver 127.0.0.53\noptions edns0\n", resolvedFile: "nameserver 192.0.2.1\n"}, resolvedFile, true, []string{"192.0.2.1"}},
		"resolved without a server":              {files{HostFile: "nameserver 127.0.0.53\n", resolvedFile: "# No DNS servers known.\n"}, "", false, nil},
		"resolved's file is missing":             {files{HostFile: "nameserver 127.0.0.53\n"}, "", false, nil},
		"a local cache":                          {files{HostFile: "nameserver 127.0.0.1\n"}, "", false, nil},
		"a local cache beside resolved":          {files{HostFile: "nameserver 127.0.0.1\n", resolvedFile: "nameserver 192.0.2.1\nsearch corp\n"}, resolvedFile, false, []string{"192.0.2.1"}},
		"a local cache of NetworkManager":        {files{HostFile: "nameserver 127.0.1.1\n", networkManager: "nameserver 192.0.2.7\n"}, networkManager, false, []string{"192.0.2.7"}},
		"both stubs of resolved":                 {files{HostFile: "nameserver 127.0.0.53\nnameserver 127.0.0.54\n", resolvedFile: "nameserver 192.0.2.1\n"}, resolvedFile, false, []string{"192.0.2.1"}},
		"the stub twice":                         {files{HostFile: "nameserver 127.0.0.53\nnameserver 127.0.0.53\n", resolvedFile: "nameserver 192.0.2.1\n"}, resolvedFile, false, []string{"192.0.2.1"}},
		"a cache, then a server":                 {files{HostFile: "nameserver 127.0.0.1\nnameserver 192.0.2.1\n"}, HostFile, false, []string{"192.0.2.1"}},
		"a cache behind the servers that count":  {files{HostFile: "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 127.0.0.1\n"}, HostFile, true, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "127.0.0.1"}},
		"no server":                              {files{HostFile: "search example.com\n"}, "", false, nil},
		"no file":                                {files{}, "", false, nil},
		"IPv6 loopback":                          {files{HostFile: "nameserver ::1\n"}, "", false, nil},
		"IPv4 loopback in IPv6":                  {files{HostFile: "nameserver ::ffff:127.0.0.1\n"}, "", false, nil},
		"all addresses":                          {files{HostFile: "nameserver 0.0.0.0\n"}, "", false, nil},
		"link-local":                             {files{HostFile: "nameserver fe80::1%eth0\n"}, "", false, nil},
		"a name":                                 {files{HostFile: "nameserver dns.example.com\n"}, "", false, nil},
		"only an IPv6 server":                    {files{HostFile: "nameserver 2001:db8::1\n"}, "", false, nil},
		"only an IPv6 server of resolved":        {files{HostFile: "nameserver 127.0.0.53\n", resolvedFile: "nameserver 2001:db8::1\n"}, "", false, nil},
		"IPv6, then IPv4":                        {files{HostFile: "nameserver 2001:db8::1\nnameserver 192.0.2.1\n"}, HostFile, true, []string{"2001:db8::1", "192.0.2.1"}},
		"an IPv4 server behind those that count": {files{HostFile: "nameserver 2001:db8::1\nnameserver 2001:db8::2\nnameserver 2001:db8::3\nnameserver 192.0.2.1\n"}, HostFile, false, []string{"192.0.2.1"}},
		"a cache, IPv6 and IPv4":                 {files{HostFile: "nameserver ::1\nnameserver 2001:db8::1\nnameserver 192.0.2.1\n"}, HostFile, false, []string{"192.0.2.1"}},
		"IPv4 in IPv6":                           {files{HostFile: "nameserver ::ffff:192.0.2.1\n"}, HostFile, true, []string{"::ffff:192.0.2.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var all []File
			for _, path := range Paths() {
				if text, ok := tc.files[path]; ok {
					all = append(all, Parse(path, []byte(text)))
				}
			}
			got, direct := ForPods(all)
			if direct != tc.direct || got.Path != tc.from || !reflect.DeepEqual(got.Servers, tc.want) {
				t.Errorf("%+v, direct %v", got, direct)
			}
		})
	}
}

func TestHasLocalServer_DoesNotCountStubs(t *testing.T) {
	for text, want := range map[string]bool{
		"nameserver 127.0.0.1\n": true, "nameserver ::1\n": true, "nameserver 192.0.2.1\nnameserver 127.0.1.1\n": true, "nameserver ::ffff:127.0.0.1\n": true,
		"": false, "nameserver 127.0.0.53\nnameserver 127.0.0.54\n": false, "nameserver 192.0.2.1\n": false, "nameserver localhost\n": false,
	} {
		t.Run(text, func(t *testing.T) {
			if got := HasLocalServer([]File{Parse(HostFile, []byte(text))}); got != want {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestIPv6Servers_AreThoseOfTheNetwork(t *testing.T) {
	files := []File{Parse(HostFile, []byte("nameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver ::ffff:192.0.2.1\n")),
		Parse(resolvedFile, []byte("nameserver 2001:db8::1\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver x\n"))}
	if got := IPv6Servers(files); !reflect.DeepEqual(got, []string{"2001:db8::1"}) {
		t.Errorf("%q", got)
	}
}

func TestText_IsParsedBack(t *testing.T) {
	f := Parse("x", []byte("; comment\nnameserver 192.0.2.1\nnameserver\nsearch a\nsearch b c\noptions ndots:2\n"))
	if got := Parse("x", []byte(f.Text("comment"))); !reflect.DeepEqual(got, f) || len(f.Search) != 2 {
		t.Errorf("%+v, want %+v", got, f)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.53\nsearch example.com\noptions edns0 trust-ad\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		chosen, direct := ForPods([]File{Parse(HostFile, text)})
		for i, s := range chosen.Servers {
			if !worksInPod(s) && (!direct || i < maxServers && !isIPv6(s)) {
				t.Errorf("%q gives pods %s", text, s)
			}
		}
	})
}
