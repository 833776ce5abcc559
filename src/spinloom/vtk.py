"""One texture as a VTK image (.vti) for ParaView, PyVista and the like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spinloom.errors import BadInput
from spinloom.hamiltonian import as_spins


def vti_bytes(spins: Any, cell: Sequence[float | int], name: str = "m") -> bytes:
    """An ``ImageData`` file of one texture (3, H, W): a vector ``name`` on each cell of size ``cell`` = (x, y, z).

    XML whose one array follows as raw little-endian float32, x fastest, then y: the image's own order, unchanged.

    Raises:
        BadInput: the shape is not (3, H, W).

    Source: The VTK User's Guide, "VTK File Formats", XML formats, ImageData with appended raw data.
    """
    tensor = as_spins(spins)
    if tensor.ndim != 3:
        raise BadInput(f"spins of shape {tuple(tensor.shape)}: one image holds one texture (3, H, W)")
    values = np.ascontiguousarray(tensor.detach().cpu().numpy().transpose(1, 2, 0), dtype="<f4")
    rows, columns = values.shape[:2]
    extent = f"0 {columns} 0 {rows} 0 1"
    spacing = " ".join(repr(float(side)) for side in cell)
    header = f"""<?xml version="1.0"?>
<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
  <ImageData WholeExtent="{extent}" Origin="0 0 0" Spacing="{spacing}">
    <Piece Extent="{extent}">
      <CellData Vectors="{name}">
        <DataArray type="Float32" Name="{name}" NumberOfComponents="3" format="appended" offset="0"/>
      </CellData>
    </Piece>
  </ImageData>
  <AppendedData encoding="raw">
   _"""
    length = np.array(values.nbytes, "<u8").tobytes()
    return header.encode() + length + values.tobytes() + b"\n  </AppendedData>\n</VTKFile>\n"
