"""Cost: what the fleet asks of its store by kind, pod and page, and what that is in warehouse time and credits."""

import streamlit as st

from fleetq_core.config import Config
from fleetq_core.dashboard import columns, shell, tables, widgets
from fleetq_core.dashboard.views import cost as views
from fleetq_core.store.tally import StoreMeter


def board() -> None:
    """The figures of the fleet, then of each kind of call and of each pod."""
    app = shell.runtime()
    snap = widgets.fresh(shell.fleet())
    if snap is None:
        return
    own = app.meter.publication() if app.pod is None and app.meter else None  # a pod would publish it
    cost, on_snowflake = views.cost_of(snap, own), app.config.store == "snowflake"
    if on_snowflake:
        widgets.tiles(views.facts(cost, snap, app.config))
    else:
        widgets.empty("The embedded store is a file: its statements cost nothing. Here is what is asked of it.")
    st.subheader("By kind")
    if not cost.kinds:
        widgets.empty("No pod has published figures yet; they come with each heartbeat.")
        return
    shown = columns.COST_KINDS if on_snowflake else columns.COST_CALLS
    tables.table(views.kind_lines(cost), shown, "Calls of the store by kind")
    st.caption("Since each process started; reads of screens and of HTTP are of the kind dashboard.")
    if on_snowflake:
        st.subheader("By pod")
        tables.table(views.pod_lines(cost, app.config), columns.COST_PODS, "The pods in the last hour")
    if app.meter is not None:
        draw_screens(app.meter, app.config)


def draw_screens(meter: StoreMeter, config: Config) -> None:
    """What the screens of this process ask, page by page, and what they cost."""
    st.subheader("This dashboard")
    if on_snowflake := config.store == "snowflake":
        widgets.tiles(views.screen_facts(meter.screens.read(), config))
    shown = columns.COST_PAGES if on_snowflake else columns.COST_PAGE_CALLS
    tables.table(views.page_lines(meter.pages()), shown, "Calls of the store by page")
    st.caption(
        "Since this process started, for all viewers of a page together: they share what is read, and a page that "
        "nobody looks at asks nothing."
    )


st.title("Cost")
shell.live(board)
