"""What hollow kubelets leave on a machine is removed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import firewall, leftovers

FAKE_IPTABLES = """#!/bin/sh
# Chains that exist are files of the folder "chains"; every change is logged.
while [ "${{1#-}}" != "$1" ] && [ "$1" != -S ] && [ "$1" != -D ] && [ "$1" != -F ] && [ "$1" != -X ]; do
  case $1 in -w) shift 2 ;; -t) table=$2; shift 2 ;; esac
done
echo "$table $*" >> {log}
[ "$table" = filter ] || [ "$1" != -S ] || exit 3
case $1 in
  -S) printf '%s\\n' '-P INPUT ACCEPT' '-N KUBE-FIREWALL' '-N MINE' '-A INPUT -j KUBE-FIREWALL' '-A INPUT -j MINE' \\
        '-A KUBE-FIREWALL ! -s 127.0.0.0/8 -j DROP' ;;
esac
"""


def with_iptables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log = tmp_path / "iptables.log"
    program = tmp_path / "iptables"
    program.write_text(FAKE_IPTABLES.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(firewall, "marked", lambda: iter(()))
    monkeypatch.setattr(firewall, "FAMILIES", ("iptables",))
    monkeypatch.setattr(firewall, "_real_kubelet_runs", lambda: False)  # whatever this machine runs just now
    return log


def test_kubelet_chains_and_the_jumps_to_them_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = with_iptables(tmp_path, monkeypatch)
    assert firewall.remove_kubelet_chains() == ["iptables/filter/KUBE-FIREWALL"]
    changes = [line for line in log.read_text().splitlines() if "-S" not in line]
    assert changes == [
        "filter -D INPUT -j KUBE-FIREWALL",
        "filter -F KUBE-FIREWALL",
        "filter -X KUBE-FIREWALL",
    ]


def test_chains_stay_while_another_lab_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = with_iptables(tmp_path, monkeypatch)
    monkeypatch.setattr(firewall, "marked", lambda: iter([(1, "/another/lab")]))
    assert firewall.remove_kubelet_chains() == []
    assert not log.exists()


def test_chains_stay_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = with_iptables(tmp_path, monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert firewall.remove_kubelet_chains() == []
    assert not log.exists()


def test_only_the_folders_that_the_logs_name_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = tmp_path / "hollow-kubelet.1", tmp_path / "hollow-kubelet.2"
    ours.mkdir()
    other.mkdir()
    log = tmp_path / "kubelet-a.log"
    log.write_text(f"I1122 hollow_kubelet.go:150] Using {ours} as root dir for hollow-kubelet\n")
    monkeypatch.setattr(leftovers, "ROOT_FOLDER", leftovers.root_folder_pattern(tmp_path))
    leftovers.remove_leftovers([log, tmp_path / "kubelet-gone.log"])
    assert not ours.exists()
    assert other.exists()
