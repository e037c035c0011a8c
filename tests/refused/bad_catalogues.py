"""What is wrong with each catalogue: one thing."""

from catalogues import STRANGER, Site, case, change, delegation, envelope, keyid, keys, layer, signature


@case("nothing: a machine takes it", "accepted")
def nothing_wrong(site: Site) -> None: ...


# Root.


@case("the first root has one signature of two", "1 of 2 required signatures are valid")
def root_by_one_key(site: Site) -> None:
    site.signers["1.root"] = [1]


@case("the first root has two signatures of one key", "two signatures are by key")
def root_twice_by_one_key(site: Site) -> None:
    site.signers["1.root"] = [1, 1]


@case("the first root wants no signature", "has a threshold of 0")
def root_that_wants_no_signature(site: Site) -> None:
    site.roots[0]["roles"]["root"]["threshold"] = 0
    site.signers["1.root"] = []


@case("the second root is signed by keys that only itself names", "of 2 required signatures are valid")
def root_by_new_keys_only(site: Site) -> None:
    root = site.next_root()
    root["keys"] |= keys(STRANGER, STRANGER + 1)
    root["roles"]["root"]["keyids"] = [keyid(STRANGER), keyid(STRANGER + 1)]
    site.signers["2.root"] = [STRANGER, STRANGER + 1]


@case("the second root is signed by the old keys and not by its own", "of 2 required signatures are valid")
def root_by_old_keys_only(site: Site) -> None:
    root = site.next_root()
    root["keys"] |= keys(STRANGER, STRANGER + 1)
    root["roles"]["root"]["keyids"] = [keyid(STRANGER), keyid(STRANGER + 1)]


@case("the file of the second root has the third", "is version 3, but 2 is required")
def root_version_skipped(site: Site) -> None:
    site.next_root()["version"] = 3


@case("the file of the second root has the first again", "is version 1, but 2 is required")
def root_version_repeated(site: Site) -> None:
    site.next_root()["version"] = 1


@case("a key stands under the identifier of another", "1 of 2 required signatures are valid")
def key_under_anothers_identifier(site: Site) -> None:
    root = site.roots[0]
    root["keys"][keyid(1)] = keys(STRANGER)[keyid(STRANGER)]


@case("a version is no whole number", "only integers have")
def version_with_a_fraction(site: Site) -> None:
    site.afterwards = change("timestamp.json", b'"version": 9', b'"version": 9.5')


@case("a field stands twice in a signed document", "0 of 1 required signatures are valid")
def field_twice(site: Site) -> None:
    site.afterwards = change("timestamp.json", b'"version": 9', b'"version": 9, "version": 10')


# Timestamp and snapshot.


@case("the timestamp is signed by the snapshot's key", "0 of 1 required signatures are valid")
def timestamp_by_another_roles_key(site: Site) -> None:
    site.signers["timestamp"] = [6]


@case("the timestamp's date was changed after it was signed", "0 of 1 required signatures are valid")
def timestamp_changed(site: Site) -> None:
    site.afterwards = change("timestamp.json", b'"expires": "2027', b'"expires": "2037')


@case("the snapshot stands in place of the timestamp", "0 of 1 required signatures are valid")
def snapshot_as_timestamp(site: Site) -> None:
    site.afterwards = lambda files: files.update({"timestamp.json": files["5.snapshot.json"]})


@case("the timestamp has expired", "version 9 of the timestamp expired")
def timestamp_expired(site: Site) -> None:
    site.timestamp["expires"] = "2026-11-20T00:00:00Z"


@case("the timestamp names another version of the snapshot", "is version 5, but 6 is required")
def snapshot_of_another_version(site: Site) -> None:
    site.timestamp["meta"]["snapshot.json"] = {"version": 6}
    site.afterwards = lambda files: files.update({"6.snapshot.json": files["5.snapshot.json"]})


@case("a snapshot of the same version with other bytes", "is signed")
def snapshot_of_another_moment(site: Site) -> None:
    def edit(files: dict[str, bytes]) -> None:
        files["5.snapshot.json"] = envelope(site.snapshot | {"expires": "2027-06-01T00:00:00Z"}, [6])

    site.afterwards = edit


@case("bytes follow the snapshot", "more than the 1233 allowed")
def snapshot_longer_than_signed(site: Site) -> None:
    site.afterwards = lambda files: files.update({"5.snapshot.json": files["5.snapshot.json"] + b" " * 4096})


@case("the snapshot names no targets", "it does not name targets.json")
def snapshot_without_targets(site: Site) -> None:
    site.unnamed = {"targets"}


# Targets and the roles by kind.


@case("the targets have one signature of two", "1 of 2 required signatures are valid")
def targets_by_one_key(site: Site) -> None:
    site.signers["targets"] = [4]


@case("the targets have a signature of one key, and one of another document", "1 of 2 required signatures are valid")
def targets_with_a_signature_of_another_document(site: Site) -> None:
    site.signers["targets"] = [4]
    site.more_signatures["targets"] = [signature(site.snapshot, 5)]


@case("targets of an older version under the name of the newer", "is version 2, but 3 is required")
def targets_of_an_older_version(site: Site) -> None:
    site.snapshot["meta"]["targets.json"] = {"version": 3}
    site.targets["version"] = 2
    site.afterwards = lambda files: files.update({"3.targets.json": files["2.targets.json"]})


@case("the delegation to base is for every name", "it must be terminating and for")
def base_for_every_name(site: Site) -> None:
    site.targets["delegations"]["roles"][1]["paths"] = ["*/*/*/*"]


@case("the delegation to base does not end the search", "it must be terminating and for")
def base_that_is_not_terminating(site: Site) -> None:
    site.targets["delegations"]["roles"][1]["terminating"] = False


@case("the base is signed by the agent's key", "0 of 1 required signatures are valid")
def base_by_the_agents_key(site: Site) -> None:
    site.signers["base"] = [11]


@case("the base is signed by the keys that a server has", "0 of 1 required signatures are valid")
def base_by_the_servers_keys(site: Site) -> None:
    site.signers["base"] = [6, 7, 8, 12]


@case("the agent's document has a base, which the plan boots", "which role agent-restic may not")
def base_in_the_agents_document(site: Site) -> None:
    site.roles["agent-restic"]["targets"]["base/evil/1/amd64"] = layer("base/evil/1/amd64")
    site.plan["chain"][1] = site.in_plan("base/evil/1/amd64")


@case("the base's document delegates to somebody else", "role base delegates nothing")
def base_that_delegates(site: Site) -> None:
    to = delegation("more", STRANGER, "base/*/*/*")
    site.roles["base"]["delegations"] = {"keys": keys(STRANGER), "roles": [to]}


@case("the base's document is older than the one that the medium knows", "base.json is version 1, but version 2 was known")
def base_older_than_known(site: Site) -> None:
    site.roles["base"]["version"] = 1


@case("the base's document has expired", "version 2 of the base expired")
def base_expired(site: Site) -> None:
    site.roles["base"]["expires"] = "2026-11-20T00:00:00Z"


@case("a target's kind is another one than its name says", "its name says base, its custom part agent")
def target_of_another_kind(site: Site) -> None:
    site.roles["base"]["targets"]["base/debian/1/amd64"]["custom"]["kind"] = "agent"


# Hosts.


@case("a host signs a session of another host, which the plan boots", "may sign host layers of its own only")
def host_that_signs_for_another(site: Site) -> None:
    site.roles["host-web1"]["targets"]["host/db1/1/amd64"] = layer("host/db1/1/amd64")
    site.plan["chain"][3] = site.in_plan("host/db1/1/amd64")
    site.plan["host"] = "db1"


@case("a host's sessions are signed by another host", "0 of 1 required signatures are valid")
def host_by_another_hosts_key(site: Site) -> None:
    site.signers["host-web1"] = [13]


@case("a host signs an agent, which the plan boots", "may sign host layers of its own only")
def host_that_signs_an_agent(site: Site) -> None:
    site.roles["host-web1"]["targets"]["agent/evil/1/amd64"] = layer("agent/evil/1/amd64")
    site.plan["chain"][2] = site.in_plan("agent/evil/1/amd64")


@case("the registrar lets a host sign for all hosts", "it must be terminating and for")
def host_with_a_wider_delegation(site: Site) -> None:
    site.roles["hosts"]["delegations"]["roles"][0]["paths"] = ["host/*/*/*"]


# The plan.


@case("an old answer to another request", "it may be a replay")
def plan_replayed(site: Site) -> None:
    site.plan["nonce"] = "08" * 32


@case("the plan is signed by the timestamp's key", "0 of 1 required signatures are valid")
def plan_by_another_roles_key(site: Site) -> None:
    site.signers["plan"] = [7]


@case("the plan is signed by a stranger", "0 of 1 required signatures are valid")
def plan_by_a_stranger(site: Site) -> None:
    site.signers["plan"] = [STRANGER]


@case("the plan was made from an older timestamp", "is version 9, but 8 is required")
def plan_of_an_older_timestamp(site: Site) -> None:
    site.plan["timestamp"]["version"] = 8


@case("the plan was made from another timestamp of the same version", "but 000000000000 is signed")
def plan_of_another_timestamp(site: Site) -> None:
    site.plan["timestamp"]["digest"] = "00" * 32


@case("the plan is good for a day", "may be for 900 seconds")
def plan_that_lives_for_a_day(site: Site) -> None:
    site.plan["expires"] = "2026-11-24T22:30:00Z"


@case("the plan's time is before the medium was made", "when this medium was made")
def plan_from_before_the_medium(site: Site) -> None:
    site.plan["time"], site.plan["expires"] = "2025-01-01T00:00:00Z", "2025-01-01T00:05:00Z"


@case("the plan boots another base under a signed name", "is not in the signed catalogue")
def plan_with_another_base(site: Site) -> None:
    site.plan["chain"][1]["digest"] = "11" * 32


@case("the plan boots an older base that the catalogue has no more", "is not in the signed catalogue")
def plan_with_an_older_base(site: Site) -> None:
    site.plan["chain"][1] = site.in_plan("base/debian/0/amd64")


@case("the plan is for a host, and boots another one's session", "belongs to another host")
def plan_with_another_hosts_session(site: Site) -> None:
    site.plan["host"] = "db1"


@case("the plan has two bases", "make no chain")
def plan_with_two_bases(site: Site) -> None:
    site.plan["chain"].insert(2, site.in_plan("base/debian/1/amd64"))


@case("the plan has no base", "make no chain")
def plan_without_base(site: Site) -> None:
    del site.plan["chain"][1]


@case("the command line names another first program", "command line")
def plan_whose_command_line_runs_a_program(site: Site) -> None:
    site.plan["command_line"] = "console=ttyS0 rdinit=/bin/sh"


@case("the command line has a control character", "command line")
def plan_whose_command_line_drives_the_terminal(site: Site) -> None:
    site.plan["command_line"] = "console=ttyS0\u001b[2J"


@case("a mirror's URL drives the terminal", "mirror")
def plan_whose_mirror_drives_the_terminal(site: Site) -> None:
    site.plan["mirrors"] = ["https://mirror.example/\u001b[2J"]


@case("the plan is of a newer format", "format")
def plan_of_a_newer_format(site: Site) -> None:
    site.plan["format"] = 2


@case("the plan has a field that nobody knows", "unknown field")
def plan_with_an_unknown_field(site: Site) -> None:
    site.plan["check_nothing"] = True


@case("a root in the envelope of a plan, by the plan's key", "its _type is Some")
def root_as_plan(site: Site) -> None:
    site.afterwards = lambda files: files.update({"plan.json": envelope(site.roots[0], [8])})
