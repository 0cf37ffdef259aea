"""Which figures there are, by theme."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation import figures_of_looks as looks
from tests.simulation import figures_of_readers as readers
from tests.simulation import figures_of_servers as servers
from tests.simulation.figure import Figure

FIGURES: dict[str, tuple[Callable[[Figure], None], ...]] = {
    "late": (
        readers.a_thread_stopped_between_lease_and_entry,
        readers.a_sync_that_is_answered_late,
        readers.a_hint_that_is_forged,
        readers.a_lie_forgotten_before_a_late_reply,
        readers.a_reply_older_than_one_before,
        readers.a_value_that_was_not_kept,
        readers.pending_and_asked_for_again,
        readers.a_join_after_an_own_write_that_waits,
    ),
    "cut off": (
        readers.a_join_of_a_load_that_was_overtaken,
        readers.a_long_load_without_redis,
        readers.a_part_from_the_end_of_a_lease,
        readers.an_older_part_without_redis,
        readers.a_token_while_redis_is_away,
        readers.a_token_beside_a_probe,
    ),
    "replaced": (
        servers.nobody_syncs,
        servers.an_own_record_is_lost,
        servers.an_own_record_of_a_new_epoch,
        servers.a_reader_left_behind,
        servers.a_read_that_runs_after_the_failover,
    ),
    "orphans": (
        servers.a_load_across_the_end_of_a_fence,
        servers.one_fence_of_several_is_gone,
        servers.what_l1_alone_has_of_a_fenced_tag,
        servers.a_join_of_what_a_fence_refused,
        servers.a_part_that_a_fence_refused,
        readers.a_join_inside_a_block,
        readers.a_part_from_before_a_block,
    ),
    "waiting": (
        servers.a_barrier_and_a_silent_reader,
        servers.a_barrier_in_a_new_epoch,
        servers.a_barrier_forgets_who_came_back,
        servers.an_acknowledgement_between_two_records,
        readers.a_hint_that_is_forged,
    ),
    "looks": (
        looks.something_written_before,
        looks.something_written_amid,
        looks.a_server_replaced_amid,
        looks.a_server_that_lost_records,
        looks.an_entry_of_an_epoch_before,
        looks.something_written_amid_a_batch,
        looks.a_batch_while_an_invalidation_waits,
        looks.a_batch_after_the_lease,
        servers.nobody_syncs,
        servers.a_read_that_runs_after_the_failover,
        readers.pending_and_asked_for_again,
        readers.a_reply_older_than_one_before,
    ),
    "trimmed": (servers.a_key_whose_version_is_gone,),
}
