package harness

// Fault is something that goes wrong, and what must hold all the same. It is a line of docs/reliability.md.
type Fault struct {
	Name   string // of its trials
	Group  string // heading
	Played string // what the test does
	Holds  string // what it checks
	Test   string // function, and the folder where it is
}

// The groups of faults, in the order of the page.
const (
	Lines    = "Lines"
	Programs = "Programs and hosts"
	Disks    = "Disks and data"
	Peers    = "Peers"
	Load     = "Load and time"
)

// Groups are the headings of the page.
var Groups = []string{Lines, Programs, Disks, Peers, Load}

const (
	whole  = "one run of the command ends with identical content; at most 32 MiB more cross for each fault"
	again  = "none of the others stays, nothing is left behind, and the copy, or the next one, is identical"
	noCode = "an error at most: no panic, bounded memory"
	goesOn = "the same command goes on after the boot, and what was not durable is done again; at the end it is identical and durable"
)

// Faults are all that the tests play.
var Faults = []Fault{
	{"cut-push", Lines, "cut, stalled, refused, slow or delayed at random moments: a file to a host", whole, "TestCuts fstests"},
	{"cut-pull", Lines, "the same, a host to this machine", whole, "TestCuts fstests"},
	{"cut-host-to-host", Lines, "the same, between two names of a host", whole, "TestCuts fstests"},
	{"cut-stream", Lines, "the same, a stream that cannot be read again (rcat)", whole, "TestCuts fstests"},
	{"cut-read", Lines, "the same, reading (cat)", whole, "TestCuts fstests"},
	{"cut-scanned", Lines, "cut in the second of three stripes", "the host reads no finished stripe again", "TestCuts_NothingTwice fstests"},
	{"silence-client", Lines, "a client that says nothing more, in every state of a session", "the helper ends after 2 minutes and lets go of the target", "TestServe_Silence helper"},
	{"silence-helper", Lines, "a helper that says nothing more", "the connection is taken for lost after 2 minutes, and resumed", "TestSession_Silence backend/host"},

	{"kill-client", Programs, "rclone is killed at a random moment", again, "TestKills fstests"},
	{"kill-helper", Programs, "the helper is killed at a random moment", again, "TestKills fstests"},
	{"kill-sshd", Programs, "the SSH server's session is killed at a random moment", again, "TestKills fstests"},
	{"interrupt", Programs, "Ctrl-C and SIGTERM in the middle", "the state is told, the program and the helpers end, the next run completes it", "TestInterrupt fstests"},
	{"trust-interrupted", Programs, "with `resume = trust`: killed, cut, Ctrl-C or SIGTERM at a random moment", "the next run is identical, and does not read again what was done, unless it says why", "TestTrust fstests"},
	{"trust-written", Programs, "the same, and somebody writes to the target before the next run", "the next run is identical, and nothing is trusted", "TestTrust fstests"},
	{"stopped", Programs, "rclone is stopped as by Ctrl-Z, for longer than helpers wait, and goes on", "the target is free after two minutes, and the copy succeeds", "TestStopped fstests"},
	{"restart-push", Programs, "the host loses its power, with its memory and half of what its disk has in its cache: a copy to a device", goesOn + "; what was durable is not read again", "TestRestart fstests/vm/restart"},
	{"restart-pull", Programs, "the host of the source is reset, and loses its memory", goesOn, "TestRestart fstests/vm/restart"},
	{"restart-stream", Programs, "the host loses its power: a stream that cannot be read again (rcat)", goesOn, "TestRestart fstests/vm/restart"},
	{"restart-image", Programs, "the host loses its power: a new image on ext4, and once more after its end", goesOn + ", and alone", "TestRestart fstests/vm/restart"},
	{"restart-killed", Programs, "the host loses its power, and rclone is killed at that moment: a new image on ext4", "after the boot the image is not there, or is whole; the next command completes it and leaves nothing else", "TestRestart_Killed fstests/vm/restart"},
	{"restart-undo", Programs, "the host loses its power, and rclone is killed at that moment: a device, with the option undo", "after the boot `undo` brings back all that the device had", "TestRestart_Killed fstests/vm/restart"},
	{"snapshot-killed", Programs, "the client, or the keeper of a snapshot, is killed", "the snapshot goes, and no other", "TestSnapshot_Removed fstests/vm/inside"},
	{"thin-map-killed", Programs, "a helper is killed while it has reserved the map of a thin pool", "the next one releases it, and nothing else", "TestThinMap_Killed fstests/vm/inside"},

	{"disk-fault", Disks, "read, write, zero and sync errors of source and target", "the error comes out as it was, both ends end, the next run completes it", "TestTransfer_DeviceFaults helper/delta"},
	{"data-changed", Disks, "a bit of a frame with content or digests flips", "the extent is sent again, or the copy fails", "TestTransfer_Corruption helper/delta"},
	{"peer-vanishes", Disks, "the stream breaks after any number of frames", "both ends end with the cause", "TestTransfer_PeerVanishes helper/delta"},
	{"cancelled", Disks, "cancelled at any moment", "both ends end with the cause", "TestTransfer_Cancel helper/delta"},
	{"bad-sectors", Disks, "places of a disk that cannot be read (dm-error), with each value of read_errors", "stopped with the byte, or all else is copied and each place is told", "TestBadDisk_BadSectors fstests/vm/inside"},
	{"disk-gone", Disks, "a disk of which nothing can be read (dm-flakey)", "an error, and the target is not changed", "TestBadDisk_Gone fstests/vm/inside"},
	{"write-error", Disks, "a disk that fails to write (dm-flakey)", "an error with the byte, soon", "TestBadDisk_Write fstests/vm/inside"},
	{"pool-full", Disks, "an overcommitted thin pool that gets full", "an error with the byte and the cause", "TestBadDisk_Write fstests/vm/inside"},
	{"disk-lies", Disks, "a disk that stores other bytes than it is given (dm-flakey)", "`verify` finds the byte, and the copy that follows is identical", "TestBadDisk_ReadBack fstests/vm/inside"},
	{"write-again", Disks, "a disk that fails to write in one place, or altogether after it was read (dm-error, dm-flakey)", "an error, and the next run completes it", "TestFaults_Write fstests/vm/inside"},
	{"scsi-zero", Disks, "SCSI disks that do not zero what they are asked to (scsi_debug)", "what is zeroed reads as zeros, and nothing else changes", "TestScsi_Zero fstests/vm/inside"},
	{"pool-not-zeroed", Disks, "a thin pool that gives out space with old data in it", "refused before anything is written", "TestThin_NotZeroed fstests/vm/inside"},
	{"snapshot-overflow", Disks, "a snapshot of LVM that overflows while it is read", "the copy fails with that cause, and the snapshot is removed", "TestSnapshot_Overflow fstests/vm/inside"},
	{"snapshot-written", Disks, "a file system that is written while it is copied, in LVM thick and thin", "whole in the copy of a snapshot, torn without one", "TestSnapshot_Consistent fstests/vm/inside"},

	{"older-client", Peers, "the client of a recorded session, with and without unknown optional frames", "the helper answers as it did then", "TestRecorded helper"},
	{"older-helper", Peers, "the helper of a recorded session, with and without unknown optional frames", "the client does and says the same", "TestRecorded backend/host"},
	{"mandatory-frame", Peers, "an unknown frame that is not optional, at each moment of the recorded session", "the session ends, in words that name the type and both versions", "TestRecorded_MandatoryFrame helper"},
	{"FuzzSession helper", Peers, "sessions of a hostile client, by a fuzzer", "no panic, no path outside of the policy, no write outside of a range, bounded memory, an end", "FuzzSession helper"},
	{"FuzzTransfer helper/delta", Peers, "somebody between two honest ends, by a fuzzer", "success means identical; no write outside of the range, bounded queues, an end", "FuzzTransfer helper/delta"},
	{"FuzzSend helper/delta", Peers, "hostile receivers, by a fuzzer", "no success with another root, an end", "FuzzSend helper/delta"},
	{"FuzzReceive helper/delta", Peers, "hostile senders, by a fuzzer", "no write outside of the range or without its digest, an end", "FuzzReceive helper/delta"},
	{"FuzzUnmarshal helper/wire", Peers, "messages of any bytes, by a fuzzer", "one form of each message, or an error", "FuzzUnmarshal helper/wire"},
	{"FuzzReader helper/wire", Peers, "streams of any bytes, by a fuzzer", noCode, "FuzzReader helper/wire"},
	{"FuzzDecoder helper/compress", Peers, "compressed data of any bytes, by a fuzzer", noCode, "FuzzDecoder helper/compress"},
	{"FuzzAwaitSpeaker backend/host", Peers, "whatever a login says before the helper, by a fuzzer", noCode, "FuzzAwaitSpeaker backend/host"},
	{"FuzzRead helper/signature", Peers, "disks of any content that are looked at, by a fuzzer", noCode, "FuzzRead helper/signature"},
	{"FuzzThinDump helper/device", Peers, "maps of thin volumes of any content, by a fuzzer", noCode, "FuzzThinDump helper/device"},
	{"FuzzRead helper/manifest", Peers, "manifests of any bytes, by a fuzzer", noCode, "FuzzRead helper/manifest"},
	{"FuzzRead backend/receipt", Peers, "receipts of any bytes, by a fuzzer", noCode, "FuzzRead backend/receipt"},
	{"FuzzReader backend/deltafile", Peers, "deltas of any bytes, by a fuzzer", noCode, "FuzzReader backend/deltafile"},
	{"FuzzSubject helper/recovery", Peers, "the head of a log of any bytes, by a fuzzer", noCode, "FuzzSubject helper/recovery"},
	{"FuzzLog helper/recovery", Peers, "logs of undo and spools of any bytes, by a fuzzer", noCode, "FuzzLog helper/recovery"},
	{"FuzzDigests helper/block", Peers, "blocks of any content and size, by a fuzzer", "the digests of the standard library", "FuzzDigests helper/block"},
	{"FuzzSum helper/block/sha256x", Peers, "the same in assembly, by a fuzzer", "the digests of the standard library", "FuzzSum helper/block/sha256x"},

	{"load", Load, "64 devices and images to one host with --transfers 16, an SSH server with its defaults", "at most 8 sessions on a connection, no refusal, none starves, bounded memory, identical", "TestLoad fstests"},
	{"load-program", Load, "the same with the option ssh, where each helper has a connection", "at most 4 log in at once, the rest as above", "TestLoad fstests"},
	{"leaks", Load, "small syncs and reads in one process, with cut lines, refusals and stopped jobs between", "no descriptor, goroutine, helper or file is left", "TestLeaks fstests"},
}
