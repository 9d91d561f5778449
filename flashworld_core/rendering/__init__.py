"""Gaussian splatting: one public function (`render.render`) over three backends that are twins."""
