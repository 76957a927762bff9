"""Gradio's own variables set to the studio's colours; the layout and the drawn parts are in static/studio.css."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

SANS = [
    fonts.Font(name)
    for name in (
        "ui-sans-serif",
        "system-ui",
        "-apple-system",
        "Segoe UI",
        "Roboto",
        "Noto Sans",
        "sans-serif",
    )
]
MONO = [
    fonts.Font(name) for name in ("ui-monospace", "SF Mono", "Cascadia Code", "Menlo", "monospace")
]

DUSK = colors.Color(
    name="dusk", c50="#f1f5f8", c100="#dfe8ee", c200="#c1d2dd", c300="#98b4c5", c400="#698fa7", c500="#4b748e",
    c600="#3b5e76", c700="#314d61", c800="#2a4051", c900="#243644", c950="#16222c",
)  # fmt: skip
PAPER = colors.Color(
    name="paper", c50="#fbfaf7", c100="#f4f1ea", c200="#e7e2d7", c300="#d3ccbd", c400="#a9a294", c500="#7f796d",
    c600="#5e5a52", c700="#43413c", c800="#23262d", c900="#191c22", c950="#121419",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """Paper and dusk by day, night sky and lamplight by night."""
    both = {
        "body_background_fill": ("#f4f1ea", "#121419"),
        "body_text_color": ("#23262d", "#e8e4dc"),
        "body_text_color_subdued": ("#625c51", "#98938a"),
        "background_fill_primary": ("#fffdf9", "#1a1d24"),
        "background_fill_secondary": ("#f8f5ef", "#15181e"),
        "border_color_primary": ("#e4ded2", "#2b2f38"),
        "border_color_accent": ("#c1d2dd", "#6b5142"),
        "color_accent_soft": ("#e6eef3", "#33291f"),
        "block_background_fill": ("transparent", "transparent"),
        "block_label_text_color": ("#5e5a52", "#b3ada2"),
        "block_title_text_color": ("#43413c", "#cdc7bb"),
        "block_info_text_color": ("#625c51", "#8d887e"),
        "input_background_fill": ("#fffdf9", "#1f232b"),
        "input_border_color": ("#ddd6c8", "#333843"),
        "input_border_color_focus": ("#698fa7", "#e2a27e"),
        "input_placeholder_color": ("#757062", "#8f8b83"),
        "button_primary_background_fill": ("#2f4a5f", "#e6a47f"),
        "button_primary_background_fill_hover": ("#3b5e76", "#efb595"),
        "button_primary_text_color": ("#ffffff", "#21150d"),
        "button_secondary_background_fill": ("#efeae0", "#262a33"),
        "button_secondary_background_fill_hover": ("#e5dfd2", "#303540"),
        "button_secondary_text_color": ("#3c3a35", "#dcd7cd"),
        "button_cancel_background_fill": ("#efeae0", "#262a33"),
        "button_cancel_background_fill_hover": ("#f0d8cf", "#4a2d26"),
        "button_cancel_text_color": ("#96402f", "#f0a08a"),
        "slider_color": ("#4b748e", "#e0a07c"),
        "checkbox_background_color_selected": ("#3b5e76", "#e0a07c"),
        "checkbox_border_color_selected": ("#3b5e76", "#e0a07c"),
        "checkbox_label_background_fill": ("transparent", "transparent"),
        "checkbox_label_background_fill_hover": ("transparent", "transparent"),
        "checkbox_label_background_fill_selected": ("transparent", "transparent"),
        "error_text_color": ("#96402f", "#f0a08a"),
    }  # fmt: skip
    base = gr.themes.Base(
        primary_hue=DUSK, secondary_hue=DUSK, neutral_hue=PAPER, font=SANS, font_mono=MONO,
        radius_size=sizes.radius_md, spacing_size=sizes.spacing_md, text_size=sizes.text_md,
    )  # fmt: skip
    flat = {"block_border_width": "0px", "block_shadow": "none", "block_padding": "0px", "input_shadow": "none",
            "input_border_width": "1px",
            "input_shadow_focus": "none",
            "block_label_background_fill": "transparent", "button_border_width": "0px", "input_radius": "10px",
            "button_large_radius": "10px", "button_medium_radius": "10px", "button_small_radius": "8px",
            "button_large_text_weight": "600", "block_title_text_weight": "560", "block_title_text_size": "14px",
            "layout_gap": "14px", "form_gap_width": "0px"}  # fmt: skip
    dark = {f"{name}_dark": night for name, (_, night) in both.items()}
    return base.set(**{name: day for name, (day, _) in both.items()}, **dark, **flat)
