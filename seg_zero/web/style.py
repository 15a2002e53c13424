"""Style and the few lines of script of the page."""

from __future__ import annotations

import json

from seg_zero.open_vocabulary.pictures import colour_of_label
from seg_zero.visualize import OBJECT_COLOURS

MOST_COLOURS = 36  # of labels, after which they come again

# The switch of an object has the colour of its mask.
_COLOURS = "\n".join(
    f"#objects label:nth-child({len(OBJECT_COLOURS)}n+{number}) {{ border-left: 6px solid rgb{colour}; }}"
    for number, colour in enumerate(OBJECT_COLOURS, start=1)
)

# So has the chip of a label.
_CHIPS = "\n".join(
    f"#chips .token:nth-of-type({MOST_COLOURS}n+{number}) {{ border-left: 6px solid rgb{colour_of_label(number)}; }}"
    for number in range(1, MOST_COLOURS + 1)
)

# To trim a clip in the browser, gradio loads a script from elsewhere.
_TRIMMING = '#clip button:is([aria-label^="Trim"], [aria-label^="Reset video"])'

CSS = f"""
.gradio-container {{ max-width: 1240px !important; margin: 0 auto !important; padding: 20px 16px 48px !important; }}
.gradio-container .main {{ padding: 0 !important; }}
footer {{ display: none !important; }}
#header h1 {{ font-size: 26px; font-weight: 650; margin: 0; }}
#header p {{ margin: 2px 0 0; color: var(--body-text-color); }}
#header .about {{ color: var(--body-text-color-subdued); font-size: 13px; overflow-wrap: anywhere; }}
.columns {{ gap: 24px; align-items: flex-start; }}
.about {{ margin: 0; color: var(--body-text-color-subdued); font-size: 13px; overflow-wrap: anywhere; }}
.notice {{ margin: 0; padding: 8px 12px; border-radius: 8px; border-left: 4px solid; overflow-wrap: anywhere; }}
.notice + .notice {{ margin-top: 6px; }}
.notice.error {{ border-color: #d92d20; background: color-mix(in srgb, #d92d20 12%, transparent); }}
.notice.warning {{ border-color: #dc8a04; background: color-mix(in srgb, #dc8a04 12%, transparent); }}
.notice.note {{ border-color: var(--primary-500); background: color-mix(in srgb, var(--primary-500) 9%, transparent); }}
.asked {{ font-size: 18px; font-weight: 600; margin: 0 0 6px; overflow-wrap: anywhere; max-height: 7em;
  overflow-y: auto; }}
.times {{ color: var(--body-text-color-subdued); font-size: 13px; margin-top: 6px; }}
.welcome {{ margin: 0; padding: 18px 18px 18px 38px; border: 1px dashed var(--border-color-primary);
  border-radius: 10px; color: var(--body-text-color-subdued); line-height: 1.9; list-style: decimal; }}
.reasoning .thinking {{ margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }}
.reasoning pre {{ margin: 0; padding: 8px 12px; border-radius: 8px; background: var(--background-fill-secondary);
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }}
.reasoning details {{ margin-top: 10px; font-size: 13px; }}
.reasoning summary {{ cursor: pointer; color: var(--body-text-color-subdued); }}
.objects {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
.notice + .objects {{ margin-top: 10px; }}
.objects, .objects :is(thead, tbody, tr) {{ border: 0 !important; }}
.objects :is(th, td) {{ text-align: left; padding: 3px 14px 3px 0 !important; font-weight: 400; vertical-align: top;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; overflow-wrap: anywhere; }}
.objects thead th {{ font-size: 13px; color: var(--body-text-color-subdued); }}
.cursor {{ display: inline-block; width: 8px; height: 16px; background: var(--primary-500);
  animation: blink 1s steps(2) infinite; vertical-align: text-bottom; }}
@keyframes blink {{ to {{ visibility: hidden; }} }}
.downloads {{ display: flex; flex-wrap: wrap; gap: 10px; }}
.downloads a {{ padding: 8px 14px; border: 1px solid var(--border-color-primary); border-radius: 8px;
  color: var(--body-text-color); text-decoration: none; }}
.downloads a:hover {{ border-color: var(--primary-500); }}
.gradio-container .shown img {{ cursor: crosshair; width: 100%; max-height: 70vh; object-fit: contain; }}
.gradio-container .shown {{ align-self: stretch; }}
.html-container, #header, #headline, #message, #reasoning, #hint, #downloads, #refers {{ padding: 0 !important; }}
#kinds button[role=tab][aria-selected=true] {{ color: var(--primary-700); }}
.dark #kinds button[role=tab][aria-selected=true] {{ color: var(--primary-300); }}
{_TRIMMING} {{ display: none; }}
.progress progress {{ appearance: none; width: 100%; height: 12px; border: 0; border-radius: 6px; overflow: hidden;
  background: var(--border-color-primary); }}
.progress progress::-webkit-progress-bar {{ background: var(--border-color-primary); }}
.progress progress::-webkit-progress-value {{ background: var(--primary-500); }}
.progress progress::-moz-progress-bar {{ background: var(--primary-500); }}
.progress p {{ margin: 2px 0 0; font-variant-numeric: tabular-nums; }}
.answers {{ list-style: none; margin: 10px 0 0; padding: 0; }}
.answers li {{ padding: 6px 0; border-top: 1px solid var(--border-color-primary); overflow-wrap: anywhere; }}
.answers b {{ display: block; font-size: 13px; font-weight: 500; color: var(--body-text-color-subdued); }}
.swatch {{ display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 8px; }}
:is(#message, #clip-message, #talk-message, #label-message, #label-hint, #hint, #refers):not(:has(.notice)),
  :is(#reasoning, #talk-reasoning):not(:has(p, pre, .cursor, table)),
  :is(#downloads, #talk-downloads, #label-downloads):not(:has(a)) {{ display: none; }}
.strip .grid-wrap {{ height: auto; min-height: 0; max-height: none; padding-top: 30px; }}
.reasoning b {{ display: block; font-size: 13px; font-weight: 500; color: var(--body-text-color-subdued); }}
.reasoning b:not(:first-child) {{ margin-top: 10px; }}
.strip .grid-container {{ gap: 10px; align-items: start; grid-template-columns: repeat(3, minmax(0, 1fr)); }}
.strip .thumbnail-item {{ aspect-ratio: auto; height: auto; width: 100%; display: flex; flex-direction: column; }}
.strip .thumbnail-item img {{ aspect-ratio: 4 / 3; height: auto; width: 100%; }}
.strip .caption-label {{ position: static; max-width: 100%; width: 100%; padding: 4px 6px; white-space: normal;
  text-align: left; font-size: 12px; line-height: 1.35; border: 0; border-radius: 0; }}
#rounds .thumbnail-item.selected:not(:focus-visible) {{ --ring-color: transparent;
  border-color: var(--border-color-primary) !important; box-shadow: none !important; }}
@media (max-width: 719px) {{
  .gradio-container {{ padding: 12px 10px 32px !important; }}
  #kinds button[role=tab] {{ padding-left: 9px !important; padding-right: 9px !important; }}
  .columns {{ flex-direction: column; flex-wrap: nowrap; gap: 14px; }}
  #looks .row, #box {{ display: grid; grid-template-columns: 1fr; }}
  #box > *, #box .form {{ width: 100% !important; max-width: none !important; }}
  #box .form {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); }}
  #looks .row > *, #box .form > * {{ min-width: 0 !important; }}
  .columns > .ask-side {{ display: contents; }}
  .columns > *, .columns > .ask-side > * {{ width: 100%; min-width: 0 !important; }}
  .columns > .answer-side {{ order: 1; scroll-margin-top: 8px; }}
  #history {{ order: 2; }}
  .ask-side > .examples {{ order: 3; }}
}}
{_COLOURS}
{_CHIPS}
"""

# Gradio makes a picture that can be clicked a button without a name.
_NAMES = {
    "shown": "Answer. A click corrects the chosen object, as the numbers below do.",
    "talk-shown": "Answer. A click refers to what is there, as the thumbnails below do.",
    "label-shown": "Labels. A click names the most probable ones there.",
}
HEAD = f"""<meta name="color-scheme" content="light dark">
<script>
new MutationObserver(() => Object.entries({json.dumps(_NAMES)}).forEach(([id, name]) => document.querySelectorAll(
  `#${{id}} button:has(img):not([aria-label])`).forEach(button => button.setAttribute('aria-label', name))
)).observe(document, {{childList: true, subtree: true}});
</script>"""


def scroll_to(elem_id: str) -> str:
    """Script of a button: on a phone the answer is below the fold."""
    return f"""(...values) => {{
  if (window.innerWidth < 720) document.getElementById('{elem_id}').scrollIntoView();
  return values;
}}"""
