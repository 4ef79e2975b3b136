package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
)

// listVendorParts returns the parts that only a vendor's host preflights request.
func (pr prober) listVendorParts() (parts []part) {
	if pr.req.Devices {
		parts = append(parts, part{facts.FactDevices, pr.gatherDevices})
	}
	if len(pr.req.Services) > 0 {
		parts = append(parts, part{facts.FactServices, pr.gatherServices})
	}
	for _, files := range pr.req.KeyPairs {
		parts = append(parts, part{facts.FactKeyPair + ":" + files.Certificate, func(context.Context) partResult { return pr.gatherKeyPair(files) }})
	}
	if len(pr.req.DNS) > 0 && !pr.req.LocalOnly {
		parts = append(parts, part{facts.FactDNS, pr.gatherDNS})
	}
	return parts
}

// gatherDevices lists the block devices. --pairs is the format that every version of
// lsblk(8) can print.
func (pr prober) gatherDevices(ctx context.Context) partResult {
	argv := []string{"lsblk", "--noheadings", "--bytes", "--pairs", "-o", "NAME,KNAME,PKNAME,TYPE,SIZE,FSTYPE,MOUNTPOINT,RO,RM"}
	out, err := pr.machine.Run(ctx, host.Cmd{Argv: argv, Timeout: commandTimeout, ReadOnly: true})
	return newPartResult(facts.FactDevices, err, func(f *facts.Facts) { f.Devices = parseBlockDevices(out) })
}

// gatherServices lists the requested services. --plain leaves out the mark before a
// failed one.
func (pr prober) gatherServices(ctx context.Context) partResult {
	argv := []string{"systemctl", "list-units", "--type=service", "--all", "--no-legend", "--no-pager", "--plain"}
	out, err := pr.machine.Run(ctx, host.Cmd{Argv: argv, Timeout: commandTimeout, ReadOnly: true})
	all := slices.DeleteFunc(parseServices(out), func(s facts.Service) bool {
		return !slices.ContainsFunc(pr.req.Services, func(name string) bool { return strings.HasPrefix(s.Unit, name) })
	})
	return newPartResult(facts.FactServices, err, func(f *facts.Facts) { f.Services = all })
}

// gatherKeyPair compares a certificate with its key. A file that this process may not
// read is unknown.
func (pr prober) gatherKeyPair(files facts.KeyPairFiles) partResult {
	fact := facts.FactKeyPair + ":" + files.Certificate
	pair := facts.KeyPair{KeyPairFiles: files}
	certificate, err := pr.machine.ReadFile(files.Certificate)
	key, errKey := pr.machine.ReadFile(files.Key)
	switch {
	case isMissing(err) || isMissing(errKey):
		pair.Status = facts.KeyPairMissing
	case err != nil || errKey != nil:
		return newPartResult(fact, errors.Join(err, errKey), nil)
	default:
		pair.Status = compareKeyPair(certificate, key)
	}
	return newPartResult(fact, nil, func(f *facts.Facts) { f.KeyPairs = append(f.KeyPairs, pair) })
}

// compareKeyPair returns the status of a certificate and a key in PEM format. The errors
// of crypto/tls have no types; their texts are part of its tests.
func compareKeyPair(certificate, key []byte) facts.KeyPairStatus {
	_, err := tls.X509KeyPair(certificate, key)
	if err == nil {
		return facts.KeyPairValid
	}
	for _, known := range []struct {
		text   string
		status facts.KeyPairStatus
	}{
		{"PEM inputs may have been switched", facts.KeyPairSwitched},
		{"found a certificate rather than a key", facts.KeyPairSwitched},
		{"private key does not match public key", facts.KeyPairMismatch},
	} {
		if strings.Contains(err.Error(), known.text) {
			return known.status
		}
	}
	if strings.Contains(err.Error(), "failed to parse private key") && bytes.Contains(key, []byte("ENCRYPTED")) {
		return facts.KeyPairEncrypted
	}
	return facts.KeyPairInvalid
}

// gatherDNS asks every name server of /etc/resolv.conf for every requested name, as it is
// and with each search domain.
func (pr prober) gatherDNS(ctx context.Context) partResult {
	text, err := pr.machine.ReadFile("/etc/resolv.conf")
	if err != nil {
		return newPartResult(facts.FactDNS, err, nil)
	}
	all := listQueries(pr.req.DNS, parseSearchDomains(text), parseNameservers(text))
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { pr.answerQuery(ctx, &all[i]) })
	}
	wg.Wait()
	return newPartResult(facts.FactDNS, nil, func(f *facts.Facts) { f.DNS = all })
}

// listQueries returns the queries for names. As in resolv.conf(5), a name that ends with
// a dot gets no search domain.
func listQueries(names, search []string, servers []netip.Addr) (all []facts.DNSAnswer) {
	for _, name := range names {
		queries := []string{strings.TrimSuffix(name, ".") + "."}
		if !strings.HasSuffix(name, ".") {
			for _, domain := range search {
				queries = append(queries, name+"."+strings.Trim(domain, ".")+".")
			}
		}
		for _, query := range queries {
			for _, server := range servers {
				all = append(all, facts.DNSAnswer{Name: name, Query: query, Server: net.JoinHostPort(server.String(), "53")})
			}
		}
	}
	return all
}

// answerQuery sets the record of a. No response leaves it empty.
func (pr prober) answerQuery(ctx context.Context, a *facts.DNSAnswer) {
	addresses, err := pr.system.ResolveAt(ctx, a.Server, a.Query)
	if err != nil || len(addresses) == 0 {
		return
	}
	a.Record = addresses[0].Unmap().String()
	a.Search = strings.TrimSuffix(strings.TrimPrefix(a.Query, strings.TrimSuffix(a.Name, ".")+"."), ".")
}
