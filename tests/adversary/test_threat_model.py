"""Each attack of docs/threat-model.md is shown by tests, or the page says that it is open."""

from __future__ import annotations

import ast
from functools import cache

import pytest
from tests.support.source import ROOT

HUB, SITE, CONTRACTS, AT_ONCE, STATES, OPEN = (
    f"adversary/test_{name}.py"
    for name in ("lying_hub", "lying_site", "contracts", "at_once", "states", "open")
)
LEDGER, LIFE = "adversary/test_lying_hub_ledger.py", "adversary/test_life_cycle.py"
GUARD, LINK = "unit/node/test_guard.py", "e2e/test_link.py"
UNMASKING = "adversary/test_lying_hub_unmasking.py"
SECRECY, NODE_SUM, HUB_SUM = (
    "property/test_secagg_secrecy.py",
    "unit/node/test_secure_sum.py",
    "unit/hub/test_secure_sum.py",
)
GLM, FORMULA = (
    "unit/analysis/test_glm.py",
    "unit/analysis/test_formula.py",
)
RANKS = "unit/analysis/test_ranks.py"
SURVIVAL = "unit/analysis/test_survival.py"
EVALUATE, CHOSEN = "unit/analysis/test_evaluate.py", "adversary/test_evaluate.py"
RESEARCHER = "adversary/test_lying_researcher.py"
HUB_RUNS, MEMBERSHIP = "unit/hub/test_runs.py", "unit/hub/test_membership.py"

DIFFERENCING = "adversary/test_differencing.py"
LOCAL = "unit/inprocess/test_differencing.py"
SINGLING = "adversary/test_singling_out.py"
GROUPS = "adversary/test_category_models.py"

SHOWN: dict[str, tuple[str, ...]] = {
    # The hub
    "Read a site's contribution": (
        f"{HUB}::test_with_an_honest_hub_the_sums_are_exact_and_each_round_is_one_total",
        f"{SECRECY}::test_what_the_hub_hears_is_uniform_and_the_same_for_all_contributions_with_one_sum",
        f"{SECRECY}::test_a_masked_word_says_nothing_of_what_it_hides",
    ),
    "Say that sites dropped out": (
        f"{NODE_SUM}::test_a_list_that_no_round_may_end_with",
        f"{NODE_SUM}::test_without_a_quorum_nothing_is_opened_for_fewer",
        f"{UNMASKING}::test_parties_get_fewer_down_to_four",
        f"{UNMASKING}::test_whatever_a_hub_asks_in_whatever_order",
        f"{SECRECY}::test_whatever_the_hub_tells_whom_one_sum_of_enough_survivors_opens_or_none",
    ),
    "Tell some sites that another one dropped out": (
        f"{NODE_SUM}::test_a_site_that_opened_one_list_neither_signs_nor_opens_another",
        f"{UNMASKING}::test_different_survivors_to_different_sites",
        f"{UNMASKING}::test_two_lists_of_survivors_at_the_same_moment",
        f"{SECRECY}::test_a_site_opens_one_kind_of_share_for_one_list_whatever_it_is_asked",
    ),
    "Read the vector of a site that dropped out": (
        f"{SECRECY}::test_the_input_of_a_site_that_was_given_up_arrives_too_late_to_be_read",
    ),
    "Use a mask key that was opened": (
        f"{SECRECY}::test_a_mask_key_that_was_opened_opens_no_other_round",
    ),
    "Swap, replay or alter sealed shares": (
        f"{NODE_SUM}::test_shares_that_the_neighbours_did_not_seal_for_this_round",
        f"{NODE_SUM}::test_an_answered_round_for_other_keys_of_a_peer_that_lies",
    ),
    "Let a site take part in some rounds of an exact statistic": (
        f"{NODE_SUM}::test_the_rounds_after_the_first_are_over_its_survivors",
        f"{NODE_SUM}::test_after_the_first_round_nobody_is_left_out",
        f"{NODE_SUM}::test_a_survivors_list_that_an_earlier_run_was_not_over",
    ),
    "Let a site take part in some rounds of a training": (
        f"{NODE_SUM}::test_a_state_is_answered_in_one_round",
        f"{UNMASKING}::test_open_a_state_that_is_nearly_the_same_and_a_site_that_is_left_out",
    ),
    "Start a computation that was not ordered": (
        f"{HUB}::test_a_forged_signature_is_refused",
        f"{HUB}::test_one_byte_of_a_signed_request_is_enough",
    ),
    "Start one that the contract does not permit": (
        f"{HUB}::test_the_nodes_refuse_what_a_hub_lets_through",
        f"{HUB}::test_after_its_expiry_a_contract_gives_nothing",
        f"{HUB}::test_the_run_limit_is_the_nodes_own",
        f"{AT_ONCE}::test_the_last_run_twice",
    ),
    "Forge, alter or complete a contract": (
        f"{CONTRACTS}::test_one_byte_of_a_contract_is_another_contract",
        f"{CONTRACTS}::test_a_contract_altered_on_the_way_to_one_site_is_active_nowhere",
        f"{CONTRACTS}::test_a_contract_is_not_activated_by",
    ),
    "Forge a suspension": (
        f"{LIFE}::test_a_statement_is_not_forged",
        f"{LIFE}::test_a_genuine_statement_is_not_turned_into_another",
        f"{LIFE}::test_a_draft_or_an_assignment_is_not_forged",
        f"{LIFE}::test_a_proposal_that_nobody_made_is_refused",
    ),
    "Lift a suspension": (
        f"{LIFE}::test_the_resume_of_an_old_suspension_does_not_lift_the_new_one",
    ),
    "Withhold a suspension": (
        f"{LIFE}::test_a_withheld_suspension_holds_at_the_site_that_suspended",
        f"{LIFE}::test_a_withheld_activation_leaves_the_old_version_in_force_where_it_is",
    ),
    "Bring a replaced version back": (f"{LIFE}::test_an_old_version_is_not_brought_back",),
    "Say that a contract was replaced": (
        f"{LIFE}::test_the_hubs_word_ends_a_contract_and_begins_none",
    ),
    "Replay a request": (
        f"{HUB}::test_a_finished_run_is_over",
        f"{HUB}::test_a_request_is_good_for_its_run_only",
    ),
    "Swap a participant's key in the roster": (
        f"{HUB}::test_a_swapped_key_in_the_list_of_parties_is_refused",
        f"{HUB}::test_a_key_of_the_same_site_from_another_run_is_refused",
        f"{HUB}::test_different_lists_of_parties_leave_nothing_to_decode",
        f"{HUB}::test_a_list_below_the_minimum_is_refused",
        f"{HUB}::test_the_list_does_not_change_within_a_run",
    ),
    "Show different states or parameters": (
        f"{HUB}::test_different_states_leave_nothing_to_decode",
        f"{HUB}::test_the_first_state_is_not_the_hubs_to_choose",
        f"{HUB}::test_two_requests_under_one_run_id_do_not_meet",
    ),
    "Ask one round twice": (
        f"{HUB}::test_a_round_is_asked_again_with_the_same_state_only",
        f"{HUB}::test_no_round_is_skipped",
        f"{AT_ONCE}::test_one_round_for_two_states",
    ),
    "Try states until a site's own sum overflows": (
        f"{GUARD}::test_a_hub_cannot_search_for_a_site_s_own_sum_by_what_overflows",
    ),
    "Run the same computation over two sets of sites": (
        f"{GUARD}::test_the_same_computation_over_other_parties_is_refused",
        f"{AT_ONCE}::test_two_runs_of_one_computation_over_two_lists",
        f"{UNMASKING}::test_the_same_request_again_over_other_survivors",
    ),
    "Leave out the comparison of a new cohort": (
        f"{DIFFERENCING}::test_a_comparison_that_is_left_out_is_refused",
        f"{DIFFERENCING}::test_a_comparison_that_leaves_out_an_earlier_result_is_refused",
        f"{DIFFERENCING}::test_a_comparison_at_another_minimum_is_refused",
        f"{DIFFERENCING}::test_a_site_refuses_what_the_total_forbids_though_the_hub_goes_on",
        f"{DIFFERENCING}::test_the_first_state_after_a_comparison_is_not_the_hubs_to_choose",
    ),
    "Falsify the sums of that comparison": (),
    "Run two *different* computations": (
        f"{OPEN}::test_two_computations_with_a_sum_in_common_over_two_sets_of_sites",
    ),
    "Choose the state of a later round": (
        f"{STATES}::test_open_a_chosen_state_singles_out_a_person",
        f"{STATES}::test_a_run_ends_with_its_rounds",
    ),
    "Leave out the checks on totals": (
        f"{STATES}::test_open_the_floor_on_the_total_is_the_hubs_to_check",
        f"{STATES}::test_a_site_keeps_its_own_floor_whatever_the_hub_asks",
    ),
    "Invent institutions": (
        f"{CONTRACTS}::test_invented_sites_need_every_stewards_signature",
        f"{CONTRACTS}::test_a_swapped_key_in_a_proposal_is_active_nowhere",
        f"{CONTRACTS}::test_a_swapped_key_of_a_known_site_is_refused",
    ),
    "See the totals of intermediate rounds": (
        f"{HUB}::test_with_an_honest_hub_the_sums_are_exact_and_each_round_is_one_total",
    ),
    "Learn which values a variable has that a test of ranks": (
        f"{RANKS}::test_the_hub_sees_who_has_which_value_of_all_sites_together",
        f"{RANKS}::test_a_site_counts_on_no_finer_grid_than_the_recorded_one",
    ),
    "Learn when persons had an event": (
        f"{SURVIVAL}::test_the_hub_sees_when_persons_of_all_sites_leave",
        f"{SURVIVAL}::test_within_sites_no_time_leaves",
    ),
    "Learn the scores that a model gives": (
        f"{EVALUATE}::test_the_hub_sees_how_many_have_which_score_of_each_model",
    ),
    "See metadata: who takes part": (),
    "Alter the total or the result": (
        f"{OPEN}::test_a_wrong_sum_is_not_noticed",
        "unit/sdk/test_receipt.py::test_a_hub_that_changes_its_answer_is_found",
    ),
    "Choose among honest answers": (f"{HUB}::test_an_early_end_costs_the_run_only",),
    "Flood a node with messages": (),
    "Fork, cut, reorder, back-date or edit the ledger": (
        f"{LEDGER}::test_a_lie_about_the_log_is_an_alarm",
        f"{LEDGER}::test_one_lie_in_a_long_honest_life_is_one_alarm",
        "unit/ledger/test_witness.py::test_an_honest_hub_is_never_an_alarm",
        "unit/ledger/test_witness.py::test_no_other_history_is_ever_accepted",
    ),
    "Show different ledgers to different sites": (
        f"{LEDGER}::test_two_views_cannot_both_become_final_and_each_site_proves_the_other",
    ),
    "Make a checkpoint final with members of its own making": (
        f"{LEDGER}::test_invented_members_make_nothing_final",
    ),
    "Put something false about a site on the ledger": (
        f"{LEDGER}::test_a_false_entry_about_the_site_is_an_alarm",
        f"{LEDGER}::test_true_entries_about_the_site_are_cosigned",
        f"{LEDGER}::test_an_answer_that_was_lost_is_an_absence",
    ),
    "Keep a run off the ledger": (
        f"{LEDGER}::test_a_hub_that_omits_a_run_is_found_out",
        f"{LEDGER}::test_a_run_that_is_told_otherwise_than_it_was_is_omitted",
        f"{LEDGER}::test_a_study_named_like_a_run_does_not_hide_its_omission",
        "unit/node/test_witness.py::test_a_run_of_which_the_ledger_never_tells_the_end_is_an_alarm",
        "unit/node/test_witness.py::test_a_hub_that_drops_each_connection_in_time_is_missed_all_the_same",
    ),
    "Show an auditor another history": (
        "unit/audit/test_verify.py::test_a_false_fact_is_found_in_its_step",
        "unit/audit/test_verify.py::test_participants_who_are_replaced_witness_that_they_are",
        "unit/hub/test_audit.py::test_evidence_ends_where_the_institutions_that_were_replaced_ceased_to_witness",
    ),
    "Spoil the ledger": (
        f"{LEDGER}::test_a_lie_about_the_log_is_an_alarm",
        "unit/ledger/test_witness.py::test_the_last_hub_that_took_over_is_the_one_that_signs",
        "unit/audit/test_verify.py::test_what_is_said_of_a_stranger_is_reported_and_spoils_nothing",
        "unit/audit/test_verify.py::test_what_a_party_is_said_to_have_signed_and_is_not_there_is_no_trifle",
        "unit/hub/test_recovery.py::test_what_a_stranger_never_said_keeps_no_study_away",
    ),
    "Take a suspension, revocation or signature": (
        f"{LEDGER}::test_a_hub_that_swallows_a_revocation_is_found_out",
        f"{LEDGER}::test_a_statement_that_is_told_as_another_is_an_alarm",
        f"{LEDGER}::test_a_statement_that_is_told_under_a_strangers_key_is_an_alarm",
    ),
    "Let a run go on after its contract": (
        f"{LIFE}::test_a_withheld_suspension_holds_at_the_site_that_suspended",
        "unit/audit/test_verify.py::test_a_false_fact_is_found_in_its_step",
    ),
    "Go on from a backup": (
        "unit/node/test_witness.py::test_a_hub_that_was_put_back_from_a_backup_is_noticed_as_it_connects",
        "unit/node/test_witness.py::test_a_hub_with_another_history_is_noticed_as_it_connects",
    ),
    "Take over the ledger from itself": (
        f"{LEDGER}::test_a_hub_that_changes_its_key_is_not_followed",
        "unit/hub/test_takeover.py::test_a_copy_that_is_not_final_is_refused",
        "unit/hub/test_takeover.py::test_a_copy_that_was_altered_is_refused",
    ),
    "Change the ledger's key": (
        f"{LEDGER}::test_a_hub_that_changes_its_key_is_not_followed",
        "unit/sdk/test_ledger_key.py::test_another_key_is_refused_and_it_is_said_what_to_do",
    ),
    "Withhold a revocation from a node": (
        f"{HUB}::test_a_removed_researcher_is_stopped_in_the_middle_of_a_run",
        "unit/node/test_store.py::test_a_revocation_is_never_taken_back",
    ),
    # Another site
    "Read another site's contribution": (
        f"{SECRECY}::test_fewer_colluders_than_the_threshold_and_the_hub_lack_a_mask",
    ),
    "Learn from a test of ranks how the persons of others": (
        f"{RANKS}::test_a_site_is_told_sizes_and_ends_and_nothing_of_the_values_between",
        "property/test_spearman.py::test_no_site_is_told_of_fewer_persons_than_a_cell",
    ),
    "Learn from an evaluation of several models": (
        f"{EVALUATE}::test_sites_are_told_released_points_only",
    ),
    "In a study of **two sites**": (f"{OPEN}::test_one_of_two_sites_knows_the_others_sum",),
    "Lie about its data": (f"{OPEN}::test_a_wrong_sum_is_not_noticed",),
    "Send a vector of the wrong length": (
        f"{SITE}::test_what_a_site_answers_to_a_round",
        f"{SITE}::test_what_is_not_a_number_never_leaves_the_site",
        f"{LINK}::test_message_larger_than_the_limit_ends_the_link",
    ),
    "Make a run fail": (
        f"{SITE}::test_a_site_that_drops_out_stops_the_run_which_goes_on_with_it",
        f"{HUB_SUM}::test_an_exact_statistic_loses_a_site_in_its_first_round_for_good",
        f"{SITE}::test_what_a_site_answers_to_the_key_agreement",
    ),
    "Collude with the hub to read a third site": (
        f"{SECRECY}::test_fewer_colluders_than_the_threshold_and_the_hub_lack_a_mask",
        f"{SECRECY}::test_so_it_is_with_the_neighbour_graph",
    ),
    "Say that it answered for other survivors": (
        f"{HUB_SUM}::test_a_round_that_was_begun_to_be_opened_for_all_waits_for_all",
        f"{HUB_SUM}::test_a_list_that_a_site_makes_up_leaves_out_nobody_but_itself",
    ),
    "Keep the hub busy by telling": (
        "unit/hub/test_witnesses.py::test_a_node_that_changes_its_mind_is_left_alone",
    ),
    "Cosign everything": (
        f"{LEDGER}::test_two_views_cannot_both_become_final_and_each_site_proves_the_other",
        "unit/ledger/test_checkpoint.py::test_the_quorum_is_more_than_two_thirds",
        "unit/ledger/test_checkpoint.py::test_final_with_the_quorum_and_not_before",
    ),
    "Send a round key or a statement": (
        "unit/hub/test_audit.py::test_a_site_cannot_spoil_the_evidence_of_the_others",
        f"{LIFE}::test_a_draft_or_an_assignment_is_not_forged",
    ),
    "Read contracts, results or drafts": (
        "unit/hub/test_drafts.py::test_a_draft_is_seen_by_those_whom_it_names",
        "unit/hub/test_rules.py::test_rule_02_who_is_not_in_a_contract_does_not_see_it",
    ),
    "See metadata on the ledger": (),
    "Guess what a digest": (
        "unit/node/test_witness_status.py::test_what_the_others_see_of_a_policy_cannot_be_guessed_and_is_opened_by_the_journal",
    ),
    "Use a certificate of another consortium": (
        f"{LINK}::test_certificate_of_another_consortium_is_refused",
        f"{LINK}::test_cut_ends_a_suspended_members_link_at_once",
        "e2e/test_membership.py::test_a_node_of_another_consortium_is_refused",
    ),
    # A researcher
    "Order what the contract does not permit": (
        f"{HUB_RUNS}::test_a_request_outside_the_contract_is_refused_before_any_site_hears_of_it",
        f"{GUARD}::test_a_request_outside_the_contract_or_policy",
    ),
    "Run code at a site": (
        f"{FORMULA}::test_anything_else_is_refused_before_anything_is_evaluated",
    ),
    "Learn about a person from a small cell": (
        "property/test_describe.py::test_no_small_cell_is_released",
        f"{GLM}::test_a_model_with_more_parameters_than_a_tenth_of_the_persons_is_refused",
        f"{GLM}::test_a_level_of_few_persons_is_refused_by_name",
    ),
    "Learn from a refusal": (f"{GUARD}::test_a_run_that_fails_on_the_data_is_a_run_that_was_used",),
    "Learn the numbers of one institution": (
        "unit/analysis/test_describe.py::test_one_institutions_own_numbers_are_not_released",
        f"{OPEN}::test_a_level_that_one_institution_has_is_counted",
    ),
    "Difference two *permitted* results": (
        f"{DIFFERENCING}::test_all_but_one_person_is_refused_after_all_of_them",
        "property/test_differencing.py::test_the_decision_is_that_on_the_pooled_persons",
        f"{LOCAL}::test_groups_are_no_way_round",
        f"{LOCAL}::test_attrition_is_no_way_round",
    ),
    "Single out a person by a derived number": (
        f"{SINGLING}::test_a_number_that_is_sharp_around_one_value_is_refused",
        f"{SINGLING}::test_such_a_factor_of_a_formula_is_refused",
        f"{SINGLING}::test_a_number_that_one_person_dominates_is_refused",
        f"{SINGLING}::test_a_factor_that_one_person_differs_in_is_refused",
        f"{SINGLING}::test_such_a_factor_of_a_model_is_refused",
        f"{SINGLING}::test_a_node_refuses_what_its_hub_lets_through",
    ),
    "Single out a person by two columns": (
        f"{SINGLING}::test_a_column_that_marks_one_person_is_refused",
        f"{SINGLING}::test_two_groups_that_differ_by_one_person_in_a_model_are_refused",
        f"{SINGLING}::test_two_groups_that_differ_by_one_person_are_not_both_correlated",
    ),
    "Read a small cell off a model of groups": (
        f"{GROUPS}::test_a_binomial_model_that_is_a_table_with_a_small_cell_is_refused",
        f"{GROUPS}::test_a_linear_model_that_counts_a_small_cell_is_refused",
        f"{GROUPS}::test_a_penalised_model_that_is_a_table_is_refused",
        f"{GROUPS}::test_a_cox_model_that_is_a_table_of_events_is_refused",
        f"{GROUPS}::test_a_mean_of_codes_of_which_few_persons_have_one_is_not_released",
        f"{OPEN}::test_a_column_that_hardly_matters_makes_no_table_and_tells_nearly_as_much",
        f"{OPEN}::test_persons_in_two_groups_at_once_are_counted_by_a_linear_model",
        f"{OPEN}::test_counts_of_few_values_follow_from_moments",
    ),
    "Learn the outcome of one person from evaluations": (
        f"{CHOSEN}::test_a_term_of_one_person_is_refused",
        f"{CHOSEN}::test_two_models_that_differ_for_one_person_are_refused",
        f"{CHOSEN}::test_a_step_between_two_ages_is_refused",
        f"{CHOSEN}::test_thresholds_are_not_the_researchers",
    ),
    "Find a number that few persons dominate": (
        f"{SINGLING}::test_a_dominated_number_between_two_others_is_not_found",
    ),
    "Combine three or more permitted results": (),
    "Learn from being refused as too close": (
        "unit/disclosure/test_differencing.py::test_the_refusal_says_what_to_do_and_nothing_about_anybody",
        f"{DIFFERENCING}::test_all_but_one_person_is_refused_after_all_of_them",
    ),
    "Order runs in another's name": (f"{HUB}::test_a_forged_signature_is_refused",),
    "Go on after removal": (
        f"{HUB_RUNS}::test_a_removed_researcher_submits_nothing",
        f"{HUB}::test_a_removed_researcher_is_stopped_in_the_middle_of_a_run",
    ),
    "Read the contracts, evidence or state": (
        f"{RESEARCHER}::test_the_name_of_another_s_study_gives_none_of_its_evidence",
        f"{RESEARCHER}::test_evidence_of_all_versions_is_for_who_is_in_all",
        f"{RESEARCHER}::test_nobody_drafts_in_another_s_study",
        f"{RESEARCHER}::test_an_order_tells_a_stranger_nothing_of_a_contract",
    ),
    "Guess a result that is for others": (
        f"{RESEARCHER}::test_what_opens_a_result_is_for_who_may_read_it",
    ),
    "Leave things out of a bundle": (
        "unit/audit/test_verify.py::test_a_false_fact_is_found_in_its_step",
        "unit/audit/test_verify.py::test_a_run_that_was_left_out_is_missed_in_the_copy",
    ),
    "Grow the ledger at every member": (
        f"{RESEARCHER}::test_refused_orders_fill_the_ledger_so_fast_only",
        f"{RESEARCHER}::test_nothing_else_fills_the_ledger_faster",
        f"{RESEARCHER}::test_a_site_fills_the_ledger_no_faster",
    ),
    # Outsiders and the network
    "Listen, alter, replay on the wire": (
        f"{LINK}::test_only_tls13",
        "unit/hub/test_api.py::test_a_token_works_once",
        "unit/crypto/test_token.py::test_a_token_for_anything_else_is_refused",
    ),
    "Use an invitation twice": (
        f"{MEMBERSHIP}::test_an_invitation_works_once_for_its_name_and_kind_and_in_time",
        "contract/test_hub_store.py::test_an_invitation_is_used_once_even_by_many_at_once",
        "e2e/test_membership.py::test_an_invitation_works_once_and_only_unaltered",
    ),
    "Impersonate the hub to a joining node": (
        "unit/node/test_join.py::test_a_hub_with_another_ca_is_refused_before_anything_is_sent",
        f"{LINK}::test_hub_of_another_consortium_is_refused",
    ),
    "Send malformed messages": (
        "property/test_node_messages.py::test_spoilt_messages_get_an_answer",
        "property/test_link_parsers.py::test_message_parser",
        f"{LINK}::test_peer_that_sends_garbage_is_dropped_alone",
    ),
    "Fill the hub with traffic": (),
    # Somebody with access to a machine
    "Read a node's disk": (),
    "Read a node's key files": (
        "unit/node/test_join.py::test_a_node_joins_waits_and_gets_its_certificate",
    ),
    "Change a node's journal": (
        "unit/node/test_store.py::test_the_journal_cannot_be_changed_through_sql",
        "unit/node/test_store.py::test_every_change_of_the_journal_breaks_its_chain",
    ),
    "Take the hub's CA key": (
        f"{CONTRACTS}::test_a_contract_is_not_activated_by",
        f"{HUB}::test_a_forged_signature_is_refused",
    ),
}


def _attacks() -> dict[str, str]:
    """Outcome by attack, from the page's tables."""
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    attacks, inside = {}, False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == "Attack":
            inside = True
        elif inside and not cells[0].startswith("---"):
            attacks[cells[0]] = cells[1]
    return attacks


@cache
def _tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def test_every_attack_is_shown_or_open() -> None:
    attacks = _attacks()
    assert len(attacks) > 30
    unknown = [a for a in attacks if not any(a.startswith(known) for known in SHOWN)]
    gone = [known for known in SHOWN if not any(a.startswith(known) for a in attacks)]
    assert not unknown, "add the attack, with its tests, to SHOWN"
    assert not gone
    for attack, outcome in attacks.items():
        tests = next(SHOWN[known] for known in SHOWN if attack.startswith(known))
        is_open = "**yes" in outcome.lower() or "not covered" in outcome.lower()
        assert tests or is_open, f"{attack}: no test, and the page does not say that it is open"


@pytest.mark.parametrize("test", sorted({test for tests in SHOWN.values() for test in tests}))
def test_the_tests_exist(test: str) -> None:
    path, name = test.split("::")
    assert name in _tests(path)
