"""The page on which a browser shows a camera. Pure. It needs no plugin and nothing from elsewhere: JPEG is a picture that is replaced, H.264 goes through
Media Source Extensions. Of a video that cannot be shown there are pictures."""

from __future__ import annotations

from collections.abc import Iterable

from kubeedge.mapper.markup import escape

_PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{margin:0;background:#111;color:#ccc;font:14px sans-serif}}video,img{{max-width:100%;max-height:96vh;display:block;margin:auto}}
p{{margin:4px 8px}}</style>
<video id="v" muted autoplay playsinline hidden></video><img id="i" alt="" hidden><p id="s">connecting</p>
<script>
const video = document.getElementById("v"), image = document.getElementById("i"), say = t => document.getElementById("s").textContent = t;
const later = why => {{ say(why); setTimeout(play, 2000); }};
function pictures(why) {{
  say(why + " - a picture every two seconds instead");
  image.hidden = false;
  image.onerror = () => later(why + " - and there is no picture");
  image.onload = () => setTimeout(() => {{ image.src = "snapshot.jpg?" + Date.now(); }}, 2000);
  image.src = "snapshot.jpg?" + Date.now();
}}
async function play() {{
  const stop = new AbortController();
  try {{
    const answer = await fetch("stream", {{signal: stop.signal, cache: "no-store"}});
    const kind = answer.headers.get("content-type") || "";
    if (answer.status === 406) return pictures((await answer.text()).trim());
    if (!answer.ok) return later(await answer.text());
    if (kind.startsWith("multipart/")) {{
      stop.abort();
      image.hidden = false; image.onload = null; image.onerror = () => later("interrupted"); image.src = "stream?" + Date.now();
      return say("");
    }}
    if (!window.MediaSource || !MediaSource.isTypeSupported(kind)) {{ stop.abort(); return pictures("this browser cannot play " + kind); }}
    const source = new MediaSource();
    video.src = URL.createObjectURL(source); video.hidden = false;
    await new Promise(done => source.addEventListener("sourceopen", done, {{once: true}}));
    const buffer = source.addSourceBuffer(kind), reader = answer.body.getReader();
    const settled = () => new Promise(done => buffer.updating ? buffer.addEventListener("updateend", done, {{once: true}}) : done());
    say("");
    for (;;) {{
      const {{done, value}} = await reader.read();
      if (done) return later("interrupted");
      buffer.appendBuffer(value); await settled();
      const ranges = video.buffered;
      if (!ranges.length) continue;
      const first = ranges.start(0), last = ranges.end(ranges.length - 1);
      if (video.currentTime < first || last - video.currentTime > 3) video.currentTime = Math.max(first, last - 0.3);
      if (video.paused) video.play().catch(() => 0);
      if (last - first > 30) {{ buffer.remove(0, last - 10); await settled(); }}
    }}
  }} catch (e) {{ stop.abort(); later(String(e)); }}
}}
play();
</script>
"""
_LIST = '<!doctype html><meta charset="utf-8"><title>cameras</title><ul>{items}</ul>\n'


def page_of(name: str) -> bytes:
    """The page of one camera, at a URL that ends in a slash: "stream" is beside it."""
    return _PAGE.format(title=escape(name)).encode()


def list_of(names: Iterable[str]) -> bytes:
    """Links to the cameras, NAMESPACE/NAME."""
    items = "".join(f'<li><a href="{escape(name)}/">{escape(name)}</a>' for name in names)
    return _LIST.format(items=items).encode()
