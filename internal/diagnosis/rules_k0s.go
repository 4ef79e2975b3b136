package diagnosis

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// restartsTooMany is the number of restarts by systemd from which k0s counts as crashing.
const restartsTooMany = 3

func k0sRules() []Rule {
	return []Rule{
		{ID: "port-taken", Area: areaK0s, Culprit: "another program uses a port of k0s", Symptom: "k0s does not start, often after a reboot: address already in use",
			Fix: "stop the program: sudo systemctl disable --now UNIT; then: sudo systemctl restart k0scontroller (worker: k0sworker)", Find: findTakenPorts},
		{ID: "k0s-config-invalid", Area: areaK0s, Culprit: "the configuration of k0s is not valid", Symptom: "k0s ends right after its start",
			Fix: "do not edit /etc/k0s/k0s.yaml: change spec.k0s.config of the Installer, and upgrade to a bundle with it: sudo plinth upgrade --bundle FILE; to have the file written again: sudo plinth install --bundle FILE, with the installed bundle",
			Logs: []LogPattern{{Source: LogK0s,
				Match:  `(failed to (load|read|parse|validate)|invalid|cannot unmarshal|error unmarshaling) .*(config|k0s\.yaml|YAML|JSON)|spec\.\S+: (Invalid|Required) value`,
				Unless: ` stream=`}}}, // of a component, which reads files of its own
		{ID: "containerd-config-invalid", Area: areaK0s, Culprit: "the configuration of containerd is not valid", Symptom: "containerd ends, the node is NotReady",
			Fix:  "correct or remove the files in /etc/k0s/containerd.d, then restart k0s",
			Logs: []LogPattern{{Source: LogK0s, Match: `failed to load TOML|containerd.*(toml: |invalid plugin config|unknown version)`}}},
		{ID: "containerd-data-damaged", Area: areaK0s, Culprit: "the data of containerd is damaged",
			Symptom: "containerd ends or containers do not start after a power cut",
			Fix: "on another controller, if there is one: sudo plinth node drain NAME\n" +
				"here: sudo systemctl stop k0scontroller (worker: k0sworker); sudo mv /var/lib/k0s/containerd /var/lib/k0s/containerd.damaged; sudo reboot\n" +
				"then load the images again: sudo plinth install --bundle FILE (or join), with the installed bundle",
			Logs: []LogPattern{{Source: LogK0s,
				Match: `(metadata|bolt|meta\.db|snapshotter).*(invalid database|checksum|corrupt|unexpected fault)|panic: .*(page|freelist|freepages)|failed to .*recover .*containerd`}}},
		{ID: "containerd-stopped", Area: areaK0s, Culprit: "containerd does not run", Symptom: "no container starts, the node is NotReady",
			Fix:  "its lines in the log say why: sudo journalctl -u k0scontroller -g component=containerd (worker: k0sworker)",
			Logs: []LogPattern{{Source: LogK0s, Match: `containerd\.sock.*(connection refused|no such file or directory)`, Min: 5}}},
		{ID: "k0s-restarts", Area: areaK0s, Culprit: "k0s ends again and again", Symptom: "the API answers for a while only",
			Fix: "its last errors say why: sudo journalctl -u k0scontroller -p err -n 50 (worker: k0sworker)",
			Find: func(s Snapshot) (found []Evidence) {
				if s.K0s.Restarts >= restartsTooMany {
					found = append(found, Evidence{Text: fmt.Sprintf("systemd has restarted %s %d times%s", s.K0s.Name, s.K0s.Restarts, lastErrorOf(s)),
						Warning: s.since(s.K0s.Since) > time.Hour})
				}
				return found
			}},
		{ID: "k0s-not-running", Area: areaK0s, Culprit: "k0s does not run", Symptom: "nothing of the cluster runs on this host",
			Fix: "start it: sudo systemctl restart k0scontroller (worker: k0sworker); its log: sudo journalctl -u k0scontroller -n 100",
			Find: func(s Snapshot) (found []Evidence) {
				starting := s.K0s.Active == "activating" && s.K0s.Sub != "auto-restart"
				if s.K0s.Load == "loaded" && !s.K0s.Running() && !starting && s.Install.Removed == "" {
					found = append(found, Evidence{Text: fmt.Sprintf("%s is %s (%s)%s", s.K0s.Name, s.K0s.Active, s.K0s.Sub, lastErrorOf(s))})
				}
				return found
			}},
		{ID: "k0s-not-enabled", Area: areaK0s, Culprit: "k0s does not start at boot", Symptom: "after a reboot the cluster is down", Warning: true,
			Fix: "sudo systemctl enable k0scontroller (worker: k0sworker)",
			Find: func(s Snapshot) (found []Evidence) {
				if s.Install.Installed && s.K0s.Load == "loaded" && s.K0s.Enabled == "disabled" && s.Install.Removed == "" {
					found = append(found, Evidence{Text: s.K0s.Name + " is disabled"})
				}
				return found
			}},
		{ID: "agent-not-running", Area: areaK0s, Culprit: "Plinth's agent does not run",
			Symptom: "hosts cannot join, certificates are not renewed; a worker reaches the API no more",
			Fix:     "sudo systemctl enable --now plinth-agent; its log: sudo journalctl -u plinth-agent -n 50",
			Find: func(s Snapshot) (found []Evidence) {
				if slices.Contains([]string{"upgrade", "rollback", "restore", "repair"}, s.Install.Verb) { // these stop it; their own end is the cause
					return nil
				}
				if u, ok := s.unit("plinth-agent.service"); ok && !u.Running() && u.Active != "activating" && s.Install.Installed && s.Install.Removed == "" {
					found = append(found, Evidence{Text: fmt.Sprintf("%s is %s (%s)%s", u.Name, u.Active, u.Sub, lastLineOf(s, LogAgent))})
				}
				return found
			}},
	}
}

// portInUse matches what Go reports for a port that another program uses.
var portInUse = regexp.MustCompile(`listen (tcp|udp)\S* \S*?:(\d+): bind: address already in use`)

// findTakenPorts returns the ports that the log of k0s reports as taken, with the program that has them now.
func findTakenPorts(s Snapshot) (found []Evidence) {
	seen := map[string]bool{}
	for _, l := range s.Logs[LogK0s] {
		m := portInUse.FindStringSubmatch(l.Text)
		if m == nil || seen[m[1]+m[2]] {
			continue
		}
		seen[m[1]+m[2]] = true
		number, _ := strconv.Atoi(m[2]) // the expression allows digits only
		e := Evidence{Text: fmt.Sprintf("k0s could not listen on %d/%s", number, m[1]), Warning: !s.k0sLinesMatter()}
		if owner := foreignOwner(s, facts.PortKey{Number: number, Protocol: m[1]}); owner != nil {
			e.Text += fmt.Sprintf("; %s (pid %d) has it", owner.Program, owner.PID)
			if owner.Unit != "" {
				e.Text += ", of " + owner.Unit + ".service"
				e.Fix = "sudo systemctl disable --now " + owner.Unit + "\nsudo systemctl restart " + s.k0sUnit()
			}
		}
		found = append(found, e)
	}
	return found
}

// foreignOwner returns the program that listens on a port and is not one of k0s; nil if there is none.
func foreignOwner(s Snapshot, key facts.PortKey) *facts.Owner {
	for _, p := range s.Listeners {
		if p.Number == key.Number && p.Protocol == key.Protocol && p.Owner != nil && p.Owner.Unit+".service" != s.K0s.Name {
			return p.Owner
		}
	}
	return nil
}

// lastErrorOf returns the newest error in the log of k0s, after a semicolon; "" if there is none.
func lastErrorOf(s Snapshot) string {
	if !s.k0sLinesMatter() {
		return ""
	}
	for _, l := range slices.Backward(s.Logs[LogK0s]) {
		if level, _ := parseLine(l.Text); level == LevelError || strings.HasPrefix(l.Text, "Error:") {
			return "; its last error: " + shorten(l.Text)
		}
	}
	return ""
}

// lastLineOf returns the newest line of a log, after a semicolon; "" if there is none.
func lastLineOf(s Snapshot, name string) string {
	lines := s.Logs[name]
	if len(lines) == 0 {
		return ""
	}
	return "; its last line: " + shorten(lines[len(lines)-1].Text)
}

func certificateRules() []Rule {
	return []Rule{
		{ID: "certificate-ended", Area: areaCerts, Culprit: "a certificate has ended", Symptom: "x509: certificate has expired; components refuse each other",
			Fix:  "correct the clock if it is wrong; else: sudo plinth certificates renew --all",
			Logs: []LogPattern{{Source: LogK0s, Match: `certificate has expired or is not yet valid`, Unless: `is before`, Level: LevelWarning}},
			Find: func(s Snapshot) (found []Evidence) {
				for _, c := range s.Certificates {
					if !c.Ends.IsZero() && c.Ends.Before(s.Time) {
						found = append(found, Evidence{Text: fmt.Sprintf("%s (%s) ended at %s", c.Name, c.Path, c.Ends.UTC().Format(time.RFC3339)), Fix: renewCommand(c)})
					}
				}
				return found
			}},
		{ID: "certificate-ends-soon", Area: areaCerts, Culprit: "a certificate ends soon and was not renewed", Symptom: "plinth status warns", Warning: true,
			Fix: "sudo plinth certificates renew --all",
			Find: func(s Snapshot) (found []Evidence) {
				for _, c := range s.Certificates {
					if c.Overdue != "" && !c.Ends.Before(s.Time) {
						found = append(found, Evidence{Text: c.Overdue, Fix: renewCommand(c)})
					}
				}
				return found
			}},
		{ID: "certificate-of-another-name", Area: areaCerts, Culprit: "a certificate does not have the name or address that a client uses",
			Symptom: "x509: certificate is valid for …, not …",
			Fix:     "give the host its former name and address; or sudo plinth certificates renew --all after a change of spec.k0s.config.spec.api.sans",
			Logs:    []LogPattern{{Source: LogK0s, Match: `x509: certificate is valid for .*, not `, Level: LevelWarning}}},
		{ID: "authority-unknown", Area: areaCerts, Culprit: "a component trusts another certificate authority than that of the cluster",
			Symptom: "x509: certificate signed by unknown authority",
			Fix:     "the host has files of another cluster, or was restored from an old copy: sudo plinth reset node, then join again",
			Logs:    []LogPattern{{Source: LogK0s, Match: `x509: certificate signed by unknown authority`, Unless: `registry|image|pull`, Min: 3}}},
	}
}

// renewCommand returns the command that renews c.
func renewCommand(c Certificate) string { return "sudo plinth certificates renew " + c.Name }

// etcdQuota is the size of the database at which etcd refuses writes, unless it is configured (etcd, --quota-backend-bytes).
const etcdQuota = 2 << 30

func etcdRules() []Rule {
	return []Rule{
		{ID: "etcd-data-damaged", Area: areaEtcd, Culprit: "the data of etcd on this controller is damaged",
			Symptom: "etcd panics at its start, often after a power cut or a full disk",
			Fix: "with other controllers: sudo plinth reset node here, sudo plinth node remove NAME there, then join again\n" +
				"on the only controller: sudo plinth restore --control-plane FILE, with a backup",
			Logs: []LogPattern{{Source: LogK0s,
				Match: `wal: crc mismatch|snap: .*(crc mismatch|no available snapshot|empty snapshot)|failed to recover v3 backend|freepages: failed|found data inconsistency|walpb: crc mismatch|failed to find .*\.snap\.db`}},
			Find: func(s Snapshot) []Evidence { return etcdAlarm(s, "CORRUPT") }},
		{ID: "etcd-member-unknown", Area: areaEtcd, Culprit: "etcd on this controller and the others do not know each other",
			Symptom: "etcd ends: member removed, cluster ID mismatch",
			Fix:     "the host was removed from the cluster, or restored from an old copy: sudo plinth reset node, then join again",
			Logs: []LogPattern{{Source: LogK0s,
				Match: `has already been bootstrapped|cluster ID mismatch|has been permanently removed|tocommit\(\d+\) is out of range|error validating peerURLs|member count is unequal`,
				Level: LevelWarning}}},
		{ID: "etcd-space-used-up", Area: areaEtcd, Culprit: "the database of etcd has reached its size limit",
			Symptom: "mvcc: database space exceeded; the cluster can be read, not changed",
			Fix: "find what creates objects without end: sudo plinth kubectl get events,jobs,pods -A | wc -l\n" +
				"delete it, then free the space on each controller, as root (sudo -i):\n" +
				`e() { curl -s --cacert /var/lib/k0s/pki/etcd/ca.crt --cert /var/lib/k0s/pki/apiserver-etcd-client.crt --key /var/lib/k0s/pki/apiserver-etcd-client.key https://127.0.0.1:2379/v3/$1 -d "$2"; }` + "\n" +
				`e kv/range '{"key":"AA=="}'    (prints revision R and member_id M, for the next commands)` + "\n" +
				`e kv/compaction '{"revision":"R","physical":true}'; e maintenance/defragment '{}'; e maintenance/alarm '{"action":"DEACTIVATE","alarm":"NOSPACE","memberID":"M"}'`,
			Logs: []LogPattern{{Source: LogK0s, Match: `mvcc: database space exceeded`}},
			Find: func(s Snapshot) []Evidence {
				found := etcdAlarm(s, "NOSPACE")
				if s.Etcd != nil && s.Etcd.InUse > etcdQuota*3/4 {
					found = append(found, Evidence{Text: fmt.Sprintf("etcd uses %s of %s", hostpreflight.FormatBytes(uint64(s.Etcd.InUse)), hostpreflight.FormatBytes(etcdQuota)), Warning: true})
				}
				return found
			}},
		{ID: "etcd-slow", Area: areaEtcd, Culprit: "the disk or the network is too slow for etcd",
			Symptom: "the API is slow, etcd changes its leader, nodes become NotReady for a moment",
			Fix:     "give /var/lib/k0s/etcd an SSD of its own and remove other load from it; sudo plinth preflight measures the disk",
			Logs: []LogPattern{
				{Source: LogK0s, Match: `slow fdatasync|failed to send out heartbeat on time|leader is overloaded likely from slow disk`, Min: 2,
					Level: LevelWarning},
				{Source: LogK0s, Match: `apply request took too long|waiting for ReadIndex response took too long`, Min: 20, Level: LevelWarning, Hint: true}}},
		{ID: "etcd-without-leader", Area: areaEtcd, Culprit: "etcd has no leader: more than half of the controllers must run",
			Symptom: "the API does not answer, or cannot change anything",
			Fix: "start the other controllers, on each: sudo systemctl restart k0scontroller\n" +
				"a lost one, as soon as most of the others run: sudo plinth node remove NAME --force\n" +
				"if most are lost for good, on one that is left: sudo plinth restore --from-this-node --plan",
			Logs: []LogPattern{{Source: LogK0s, Match: `etcdserver: no leader|etcdserver: request timed out|rejected connection: no leader`, Min: 2}},
			Find: func(s Snapshot) []Evidence {
				if s.Etcd == nil || len(s.Etcd.Members) == 0 || slices.ContainsFunc(s.Etcd.Members, func(m EtcdMember) bool { return m.Leader }) {
					return nil
				}
				return []Evidence{{Text: fmt.Sprintf("etcd has %d members and no leader", len(s.Etcd.Members))}}
			}},
		{ID: "etcd-join-unfinished", Area: areaEtcd, Culprit: "a controller did not finish its join",
			Symptom: "etcd has a member that never started; the next failure may stop the cluster", Warning: true,
			Fix: "finish the join there, or remove it: sudo plinth node remove NAME",
			Find: func(s Snapshot) (found []Evidence) {
				if s.Etcd == nil {
					return nil
				}
				for _, m := range s.Etcd.Members {
					if m.Name == "" || m.Learner {
						found = append(found, Evidence{Text: strings.TrimSpace("the member at " + m.Address + " " + m.Name + " has no vote yet")})
					}
				}
				return found
			}},
	}
}

func etcdAlarm(s Snapshot, alarm string) (found []Evidence) {
	if s.Etcd != nil && slices.Contains(s.Etcd.Alarms, alarm) {
		found = append(found, Evidence{Text: "etcd has the alarm " + alarm})
	}
	return found
}

func apiRules() []Rule {
	return []Rule{
		{ID: "etcd-not-answering", Area: areaEtcd, Culprit: "etcd on this controller does not answer", Symptom: "the API does not answer on this host",
			Fix: "its lines in the log say why: sudo journalctl -u k0scontroller -g component=etcd -n 50",
			Find: func(s Snapshot) (found []Evidence) {
				if s.EtcdError != "" && s.K0s.Running() {
					found = append(found, Evidence{Text: s.EtcdError})
				}
				return found
			}},
		{ID: "api-not-answering", Area: areaEtcd, Culprit: "the API server does not answer", Symptom: "kubectl and the console fail; pods keep running",
			Fix: "the findings above; else the log: sudo journalctl -u k0scontroller -g component=kube-apiserver -n 50; on a worker: sudo journalctl -u plinth-agent",
			Find: func(s Snapshot) (found []Evidence) {
				if s.ClusterError != "" && s.K0s.Load == "loaded" && s.Install.Removed == "" {
					found = append(found, Evidence{Text: s.ClusterError, Warning: !s.Install.Installed && s.Install.Failed == ""})
				}
				return found
			}},
	}
}

func runRules() []Rule {
	return []Rule{
		{ID: "preflight-fails", Area: areaPlinth, Culprit: "a host preflight fails now", Symptom: "install, join or upgrade ends with exit code 5",
			Fix: "sudo plinth preflight", Find: findFailedPreflights},
		{ID: "run-unfinished", Area: areaPlinth, Culprit: "a run of Plinth is not finished", Symptom: "the cluster or this host is between two states", Warning: true,
			Fix: "run the same command again: it resumes where it stopped",
			Find: func(s Snapshot) (found []Evidence) {
				if s.Install.Verb == "" {
					return nil
				}
				why := "it was killed or interrupted"
				if s.Install.Failed != "" {
					why = shorten(s.Install.Failed)
				}
				return []Evidence{{Text: fmt.Sprintf("%s stopped at %s: %s", s.Install.Verb, s.Install.Step, why)}}
			}},
	}
}

// preflightsWithOwnRule are the preflights that rules of their own report, or that do not tell of a failure.
var preflightsWithOwnRule = []string{"packet-filter", "firewalld", "ufw", "iptables-tables", "fapolicyd", "proxy", "host-identity", "node-address", "default-route",
	"localhost-resolves", "data-folder", "earlier-run", "disk-mount-options", "disk-inodes", "disk-eviction", "disk-space", "root", "existing-k0s"}

func findFailedPreflights(s Snapshot) (found []Evidence) {
	for _, e := range s.Preflights.Results {
		isChange := s.Install.Installed && (e.Group == "Network" || e.Group == "Already on this host") // of the cluster itself
		if e.State == hostpreflight.Fail && !slices.Contains(preflightsWithOwnRule, e.ID) && !isChange {
			found = append(found, Evidence{Text: e.ID + ": " + e.Found, Fix: e.Fix, Warning: s.Install.Installed})
		}
	}
	return found
}
