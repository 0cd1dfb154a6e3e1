package host

import (
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/env"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Options returns the rclone options that fill a Config, with rclone's sftp
// names where that backend has them. Unlike there, user and port have no
// default value, so that the ssh config file can supply them.
func Options() []fs.Option {
	options := hostOptions()
	options = append(options, keyOptions()...)
	options = append(options, algorithmOptions()...)
	options = append(options, programOptions()...)
	options = append(options, helperOptions()...)
	return append(append(options, limitOptions()...), lineOptions()...)
}

func hostOptions() []fs.Option {
	return []fs.Option{{
		Name: "host",
		Help: `Host to connect to.

A name, an address or a Host alias of the ssh config file. With this set, paths
are ` + "`name:/dev/sdb`" + `; without it they name the host:
` + "`blockdev:user@host:port/dev/sdb`" + `. "localhost" is this machine, without SSH.

E.g. "backup.example.com".`,
		Sensitive: true,
	}, {
		Name: "user",
		Help: `SSH user name.

Leave blank for the user that the path names, then User of the ssh config file,
then the current user. Devices usually need root, or the option sudo.`,
		Sensitive: true,
	}, {
		Name: "port",
		Help: `SSH port number.

Leave blank for Port of the ssh config file, then 22.`,
	}, {
		Name: "known_hosts_file",
		Help: `Path to the known_hosts file.

The key of a host must be in this file, otherwise the connection is refused and
the error shows the line to add. Leave blank for UserKnownHostsFile of the ssh
config file, then ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.` + env.ShellExpandHelp,
		Advanced: true,
		Examples: []fs.OptionExample{{
			Value: "~/.ssh/known_hosts",
			Help:  "Use OpenSSH's known_hosts file.",
		}},
	}, {
		Name: "ssh_config",
		Help: `Path to the ssh config file.

Host aliases, HostName, User, Port, IdentityFile, CertificateFile,
IdentitiesOnly, IdentityAgent, ProxyJump, UserKnownHostsFile, HostKeyAlias and
ConnectTimeout are used. Leave blank for ~/.ssh/config and
/etc/ssh/ssh_config, set to "none" to read no file.` + env.ShellExpandHelp,
		Advanced: true,
	}}
}

func keyOptions() []fs.Option {
	return []fs.Option{{
		Name: "pass",
		Help: `SSH password, leave blank to use ssh-agent and key files.

It also answers the questions of keyboard-interactive logins.`,
		IsPassword: true,
	}, {
		Name: "key_pem",
		Help: `Raw PEM-encoded private key.

On a single line with line endings replaced with '\n', as made by

    awk '{printf "%s\\n", $0}' < ~/.ssh/id_ed25519

If specified, it overrides key_file.`,
		Sensitive: true,
	}, {
		Name: "key_file",
		Help: `Path to the private key file.

Leave blank to use ssh-agent, IdentityFile of the ssh config file, or
~/.ssh/id_ed25519, id_ecdsa and id_rsa. A certificate beside it, named like the
key with "-cert.pub" added, is used as well.` + env.ShellExpandHelp,
	}, {
		Name: "key_file_pass",
		Help: `Passphrase of the private key.

For key_file and key_pem, in the OpenSSH and in the PEM format.`,
		IsPassword: true,
	}, {
		Name: "pubkey",
		Help: `SSH certificate for the private key, as text.

Set this if you have a signed certificate to log in with. If specified, it
overrides pubkey_file.`,
	}, {
		Name: "pubkey_file",
		Help: `Path to the SSH certificate for the private key.

Set this if you have a signed certificate to log in with, and it is not beside
the key.` + env.ShellExpandHelp,
	}, {
		Name:    "key_use_agent",
		Default: false,
		Help: `Use only keys of the ssh-agent.

When key_file is also set, only that key is asked for: its public half is read
from key_file with ".pub" added, or from key_file itself. This avoids "too many
authentication failures" when the agent holds many keys.`,
	}, {
		Name:    "ask_password",
		Default: false,
		Help: `Ask for the SSH password when no key is accepted.

The password is asked for once per host and kept in memory until rclone ends.`,
		Advanced: true,
	}}
}

func algorithmOptions() []fs.Option {
	list := func(name, what, query, example, preset string) fs.Option {
		return fs.Option{
			Name:    name,
			Default: fs.SpaceSepList{},
			Help: `Space separated list of ` + what + `, in order of preference.

At least one must match the server's. "ssh -Q ` + query + `" shows what OpenSSH knows.
` + preset + `

Example:

    ` + example + `
`,
			Advanced: true,
		}
	}
	return []fs.Option{
		list("ciphers", "ciphers", "cipher",
			"aes256-gcm@openssh.com chacha20-poly1305@openssh.com",
			"Leave blank for all that are safe, aes128-gcm@openssh.com first because it is the fastest."),
		list("key_exchange", "key exchange algorithms", "kex",
			"mlkem768x25519-sha256 curve25519-sha256", "Leave blank for all that are safe."),
		list("macs", "MAC algorithms (message authentication codes)", "mac",
			"hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com", "Leave blank for all that are safe."),
		list("host_key_algorithms", "host key algorithms", "HostKeyAlgorithms",
			"ssh-ed25519 rsa-sha2-512", "Leave blank to prefer those that known_hosts holds for the host."),
	}
}

func programOptions() []fs.Option {
	return []fs.Option{{
		Name:    "ssh",
		Default: fs.SpaceSepList{},
		Help: `Path and arguments of an ssh program to use instead of the built-in SSH.

For what the built-in SSH lacks: ProxyCommand, Match, GSSAPI, ControlMaster.
rclone adds the port (-p) and the user (-l) where they are given, "--", the host
and a command. The program must log in without asking; known_hosts, keys and
algorithms are its own business. Arguments with spaces in should be surrounded
by "double quotes".

Examples:

    ssh
    ssh -i /root/.ssh/backup -o ServerAliveInterval=20
`,
		Advanced: true,
	}}
}

func helperOptions() []fs.Option {
	return []fs.Option{{
		Name: "helper_path",
		Help: `Path of a helper that is already installed on the host.

Leave blank to have the helper put there by rclone when it is missing. Leading
"~/" is the home directory on the host.

E.g. "/usr/local/bin/blockdev-helper".`,
		Advanced: true,
	}, {
		Name: "helper_dir",
		Help: `Directory on the host in which rclone may keep the helper.

The helper (about 4.5 MB) is kept in its subdirectory "rclone-blockdev", which must
belong to the user who logs in. Leave blank for $XDG_CACHE_HOME or ~/.cache. Where
that is full or does not allow programs, $XDG_RUNTIME_DIR and, for root, /run are
tried. Leading "~/" is the home directory on the host.

E.g. "/var/tmp".`,
		Advanced: true,
	}, {
		Name:    "sudo",
		Default: false,
		Help: `Run the helper as root with "sudo -n".

Sudo must not ask for a password. Where there is no sudo, "doas -n" is used. It
works for "localhost" as well.`,
	}}
}

func limitOptions() []fs.Option {
	return []fs.Option{{
		Name:    "streams",
		Default: 4,
		Help: `Number of parallel streams for one transfer.

Each stream is one helper process that works on its own range of the device. On
long distances more streams are faster, since SSH limits each to 2 MiB per round
trip.`,
		Advanced: true,
	}, {
		Name:    "connections",
		Default: 0,
		Help: `Number of SSH connections that carry the streams.

One connection is limited by one processor core at each end (roughly 500 MB/s to
1 GB/s), so more than one helps on fast networks. 0 means one, and for a transfer
that may have to send a GiB or more a second one, if it can be had within seconds
and without asking anybody.`,
		Advanced: true,
	}, {
		Name:    "hash_limit",
		Default: 4,
		Help: `Number of SHA-256 sums computed on a host at once.

More wait for their turn, whatever --checkers is. Each reads a disk and takes a
processor core of the host. Rotational disks are read one after the other.`,
		Advanced: true,
	}, {
		Name:    "compress",
		Default: Compress(wire.CompressAuto),
		Help: `How data is compressed on its way.

"auto" tries a sample of each piece and compresses what gets smaller, where the
line is so slow that this makes it faster. "off" never does, "s2" (fast) and
"zstd" (smaller) always do, unless a piece does not get smaller. Zeros never
cross the network. It has no effect on data that stays on this machine, and
ssh's own compression is never used.`,
		Examples: []fs.OptionExample{
			{Value: "auto", Help: "Where it makes the line faster."},
			{Value: "off", Help: "Never."},
			{Value: "s2", Help: "Fast."},
			{Value: "zstd", Help: "Smaller."},
		},
		Advanced: true,
	}, {
		Name:    "direct",
		Default: Direct(wire.DirectAuto),
		Help: `Whether devices are read past the page cache of their host.

That costs less memory and processor time. "auto" does so with devices that do
not rotate and that nobody else writes to; what of them is in the cache is read
there. "on" includes the others, "off" always reads through the cache. Image
files are read through the cache, and the cache is left as it was in any case.
It has no effect on reading in rclone's own ranges, as of a mount.`,
		Examples: []fs.OptionExample{
			{Value: "auto", Help: "Where it is faster."},
			{Value: "off", Help: "Never."},
			{Value: "on", Help: "With all devices."},
		},
		Advanced: true,
	}}
}

func lineOptions() []fs.Option {
	return []fs.Option{{
		Name:    "keepalive",
		Default: fs.Duration(30 * time.Second),
		Help: `Time between two signs of life on a silent connection.

A connection counts as lost when nothing came from the host for three times as
long. Then it is made again, see retry_time. Set to 0 to wait for ever. It has no
effect with the option ssh, whose program has ServerAliveInterval.

Unless this is 0, rclone and its helper also say to each other every 15 seconds
that they are there. A helper that has heard nothing for 2 minutes ends and lets go
of what it has open; one that says nothing for 2 minutes counts as lost. So an
rclone that was stopped for longer, as with Ctrl-Z, connects anew.`,
		Advanced: true,
	}, {
		Name:    "idle_timeout",
		Default: fs.Duration(60 * time.Second),
		Help: `Max time before closing idle connections.

If no transfer used a connection in the time given, rclone closes it.

Set to 0 to keep connections indefinitely.
`,
		Advanced: true,
	}}
}
